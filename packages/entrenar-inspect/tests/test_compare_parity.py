"""`compare` on models that transformers and PEFT have written."""

import numpy as np
import pytest

from entrenar_inspect.compare import compare
from entrenar_inspect.opening import open_artifact

pytestmark = pytest.mark.parity

RANK = 8


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch")


@pytest.fixture(params=["float32", "bfloat16"])
def base(request, torch):
    """A small LLaMA with random weights, in one of two types."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=96, hidden_size=128, intermediate_size=192, num_hidden_layers=3,
        num_attention_heads=4, num_key_value_heads=4,
    )  # fmt: skip
    return transformers.LlamaForCausalLM(config).to(getattr(torch, request.param))


def merged(torch, base):
    """The model with an adapter of RANK on two projections merged in by PEFT."""
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(r=RANK, lora_alpha=16, target_modules=["q_proj", "v_proj"])
    adapted = peft.get_peft_model(base, config)
    with torch.no_grad():
        for name, weight in adapted.named_parameters():
            if "lora_" in name:
                weight.normal_(std=0.03)
    return adapted.merge_and_unload()


def compared(a, b):
    with open_artifact(str(a)) as one, open_artifact(str(b)) as other:
        return compare(one, other, values=True)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # PEFT's use
def test_an_adapter_that_peft_merged_is_recognised_with_its_rank(base, torch, tmp_path):
    base.save_pretrained(tmp_path / "a")
    merged(torch, base).save_pretrained(tmp_path / "b")
    found = compared(tmp_path / "a", tmp_path / "b").numbers
    assert (found.tensors - found.identical, found.differ) == (6, 6)
    low_rank = found.low_rank
    assert (low_rank.rank, low_rank.smallest, low_rank.matrices) == (RANK, RANK, 6)
    assert low_rank.share > 0.99
    assert set(low_rank.modules) == {"q_proj", "v_proj"}


def test_a_model_of_which_all_was_trained_is_no_merged_adapter(base, torch, tmp_path):
    base.save_pretrained(tmp_path / "a")
    with torch.no_grad():
        for weight in base.parameters():
            weight += 1e-3 * torch.randn_like(weight)
    base.save_pretrained(tmp_path / "b")
    assert compared(tmp_path / "a", tmp_path / "b").numbers.low_rank is None


def test_figures_are_those_of_torch(base, torch, tmp_path):
    base.save_pretrained(tmp_path / "a")
    before = {name: x.detach().double() for name, x in base.state_dict().items()}
    with torch.no_grad():
        for weight in base.parameters():
            weight += 1e-2 * torch.randn_like(weight)
    base.save_pretrained(tmp_path / "b")
    after = {name: x.detach().double() for name, x in base.state_dict().items()}
    for pair in compared(tmp_path / "a", tmp_path / "b").tensors:
        a, b = before[pair.name], after[pair.name]
        found = pair.difference
        assert found.relative == pytest.approx(((b - a).norm() / a.norm()).item(), rel=2e-6)
        cosine = torch.nn.functional.cosine_similarity(a.flatten(), b.flatten(), dim=0)
        assert found.cosine == pytest.approx(cosine.item(), rel=2e-6)
        assert found.largest == pytest.approx((b - a).abs().max().item(), rel=1e-6)
        assert found.at == tuple(np.unravel_index((b - a).abs().argmax().item(), a.shape))


def test_a_model_without_its_head_and_one_of_torch_save_are_the_same_tensors(base, torch, tmp_path):
    base.save_pretrained(tmp_path / "a")
    base.model.save_pretrained(tmp_path / "b")
    found = compared(tmp_path / "a", tmp_path / "b")
    assert [pair.name for pair in found.tensors if pair.change != "same"] == ["lm_head.weight"]
    torch.save(base.state_dict(), tmp_path / "c.bin")
    assert compared(tmp_path / "a", tmp_path / "c.bin").same
