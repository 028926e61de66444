"""Adapters on a disk beside PEFT: its files are read and merged, and it reads those of ours."""

import warnings

import numpy as np
import pytest

from entrenar_core.lora.base import Base
from entrenar_core.lora.changes import Weighted, changes
from entrenar_core.lora.combine import Options
from entrenar_core.lora.joined import as_content, join, resize
from entrenar_core.lora.merge import write_merged
from entrenar_core.lora.merged import Merged
from entrenar_core.lora.stored import StoredAdapter
from entrenar_core.lora.write import write_adapter

pytestmark = pytest.mark.parity

LLAMA = {
    "vocab_size": 64, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2,
    "num_attention_heads": 2, "num_key_value_heads": 1, "attention_bias": True,
    "tie_word_embeddings": False,
}  # fmt: skip
GPT2 = {
    "vocab_size": 64, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 32,
    "bos_token_id": 0, "eos_token_id": 1,
}  # fmt: skip

ADAPTERS = {
    "plain": ("llama", {"target_modules": "all-linear"}),
    "two targets": ("llama", {"target_modules": ["q_proj", "layers.1.mlp.up_proj"]}),
    "some layers": ("llama", {"target_modules": ["q_proj"], "layers_to_transform": [1]}),
    "without some": (
        "llama",
        {"target_modules": ["q_proj", "v_proj"], "exclude_modules": ["layers.0.self_attn.v_proj"]},
    ),
    "rsLoRA": ("llama", {"target_modules": ["q_proj", "v_proj"], "use_rslora": True}),
    "patterns": (
        "llama",
        {"target_modules": ["q_proj", "v_proj"], "rank_pattern": {"q_proj": 4},
         "alpha_pattern": {"layers.1.self_attn.q_proj": 3}, "use_rslora": True},
    ),
    "DoRA": ("llama", {"target_modules": ["q_proj", "down_proj"], "use_dora": True}),
    "all biases": ("llama", {"target_modules": ["q_proj"], "bias": "all"}),
    "its biases": ("llama", {"target_modules": ["q_proj"], "bias": "lora_only"}),
    "biases of B": ("llama", {"target_modules": ["q_proj"], "lora_bias": True}),
    "saved whole": (
        "llama", {"target_modules": ["q_proj"], "modules_to_save": ["norm", "lm_head"]}
    ),
    "embeddings": ("llama", {"target_modules": ["embed_tokens", "q_proj"]}),
    "DoRA of embeddings": ("llama", {"target_modules": ["embed_tokens"], "use_dora": True}),
    "head": ("llama", {"target_modules": ["lm_head"]}),
    "GPT-2": ("gpt2", {"target_modules": ["c_attn", "c_proj", "c_fc"], "fan_in_fan_out": True}),
    "GPT-2, DoRA": ("gpt2", {"target_modules": ["c_attn", "c_proj"], "use_dora": True}),
    "tied head": ("tied", {"target_modules": ["lm_head"]}),
    "tied table": ("tied", {"target_modules": ["embed_tokens", "q_proj"]}),
    "tied table, whole": (
        "tied", {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"]}
    ),
    "tied, both alike": (
        "tied", {"target_modules": ["embed_tokens"], "ensure_weight_tying": True}
    ),
    "tied, both whole": (
        "tied",
        {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"],
         "ensure_weight_tying": True},
    ),
    "GPT-2, tied output": ("gpt2", {"target_modules": ["c_attn", "lm_head"]}),
    "GPT-2, table": ("gpt2", {"target_modules": ["wte"]}),
}  # fmt: skip


@pytest.fixture
def made(tmp_path):
    """A function that writes a base and an adapter of PEFT whose every number was trained, and
    returns the adapted model."""
    torch, peft = pytest.importorskip("torch"), pytest.importorskip("peft")
    transformers = pytest.importorskip("transformers")

    def make(kind, settings, *, dtype="float32", name="adapter", seed=0):
        torch.manual_seed(seed)
        if kind == "gpt2":
            model = transformers.GPT2LMHeadModel(transformers.GPT2Config(**GPT2))
        else:
            config = LLAMA | {"tie_word_embeddings": kind == "tied"}
            model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**config))
        model = model.to(getattr(torch, dtype))
        if not (tmp_path / "base").exists():
            model.save_pretrained(tmp_path / "base")
        else:
            model = type(model).from_pretrained(tmp_path / "base", dtype=getattr(torch, dtype))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            lora = peft.LoraConfig(task_type="CAUSAL_LM", r=2, lora_alpha=5, **settings)
            adapted = peft.get_peft_model(model, lora).eval()
            for parameter in adapted.parameters():
                if parameter.requires_grad:
                    parameter.data += 0.1 * torch.randn_like(parameter)
            adapted.save_pretrained(tmp_path / name)
        return adapted

    return make


def logits(model):
    import torch

    with torch.no_grad():
        return model(torch.arange(12)[None]).logits.float().numpy()


def merged_here(tmp_path, names=("adapter",), weights=(1.0,)):
    """The base of transformers with the adapters merged in by this library."""
    import torch
    from transformers import AutoModelForCausalLM

    with Base(tmp_path / "base") as base:
        adapters = [StoredAdapter(tmp_path / name) for name in names]
        given = [Weighted(a, w) for a, w in zip(adapters, weights, strict=True)]
        write_merged(Merged(base, changes(base, given)), tmp_path / "out")
        for adapter in adapters:
            adapter.close()
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype="auto").eval()
    assert model.dtype in (torch.float32, torch.bfloat16, torch.float16)
    return model


def quietly(function):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return function()


def relative(found, wanted):
    return float(np.abs(found - wanted).max() / (np.abs(wanted).max() or 1.0))


@pytest.mark.parametrize("case", ADAPTERS)
def test_a_merged_model_computes_what_the_adapted_one_did(tmp_path, made, case):
    adapted = made(*ADAPTERS[case])
    assert relative(logits(merged_here(tmp_path)), logits(adapted)) < 1e-5


@pytest.mark.parametrize("case", [c for c in ADAPTERS if "tied" not in c and "table" not in c])
def test_merged_weights_are_those_of_merge_and_unload(tmp_path, made, case):
    """But for tied weights, where what PEFT merges is not what it computed with."""
    adapted = made(*ADAPTERS[case])
    found = merged_here(tmp_path).state_dict()
    wanted = quietly(adapted.merge_and_unload).state_dict()
    assert found.keys() == wanted.keys()
    for name, tensor in wanted.items():
        assert relative(found[name].numpy(), tensor.numpy()) < 1e-6, name


@pytest.mark.parametrize("case", ["plain", "DoRA", "GPT-2"])
def test_in_bfloat16_results_are_off_by_one_rounding(tmp_path, made, case):
    """Of the exact result, PEFT's arithmetic being in bfloat16 itself."""
    import torch

    kind, settings = ADAPTERS[case]
    adapted = made(kind, settings, dtype="bfloat16")
    found = merged_here(tmp_path).state_dict()
    wanted = quietly(adapted.float().merge_and_unload).state_dict()
    for name, tensor in wanted.items():
        rounded = tensor.to(torch.bfloat16).float()
        step = torch.maximum(tensor.abs() * 2**-8, torch.tensor(1e-6 * float(tensor.abs().max())))
        assert found[name].dtype == torch.bfloat16
        assert bool(((found[name].float() - tensor).abs() <= step).all()), name
        assert float((found[name].float() != rounded).float().mean()) < 0.01, name


@pytest.mark.parametrize("case", ADAPTERS)
@pytest.mark.parametrize("form", ["safetensors", "pth"])
def test_what_is_written_here_is_the_same_to_peft(tmp_path, made, case, form):
    import peft
    from transformers import AutoModelForCausalLM

    adapted = made(*ADAPTERS[case])
    with StoredAdapter(tmp_path / "adapter") as stored:
        write_adapter(tmp_path / "again", as_content(stored), form=form)
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    again = quietly(lambda: peft.PeftModel.from_pretrained(base, tmp_path / "again").eval())
    assert relative(logits(again), logits(adapted)) < 1e-6


@pytest.mark.parametrize("method", ["linear", "svd"])
def test_adapters_combined_here_are_their_weighted_sum_to_peft(tmp_path, made, method):
    import peft
    from transformers import AutoModelForCausalLM

    made("llama", {"target_modules": ["q_proj", "v_proj"], "use_rslora": True}, name="one")
    made("llama", {"target_modules": ["q_proj", "up_proj"], "lora_bias": False}, name="two", seed=1)
    with StoredAdapter(tmp_path / "one") as a, StoredAdapter(tmp_path / "two") as b:
        options = Options(4 if method == "svd" else None)
        content, _ = join([Weighted(a, 0.7), Weighted(b, -0.4)], method=method, options=options)
    write_adapter(tmp_path / "both", content)
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    both = quietly(lambda: peft.PeftModel.from_pretrained(base, tmp_path / "both").eval())
    wanted = merged_here(tmp_path, ("one", "two"), (0.7, -0.4))
    assert relative(logits(both), logits(wanted)) < 1e-5


def test_a_resized_adapter_is_read_by_peft(tmp_path, made):
    import peft
    from transformers import AutoModelForCausalLM

    made("llama", {"target_modules": "all-linear", "use_dora": True, "bias": "all"})
    with StoredAdapter(tmp_path / "adapter") as stored:
        content, _ = resize(stored, rank=1)
    write_adapter(tmp_path / "small", content)
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    small = quietly(lambda: peft.PeftModel.from_pretrained(base, tmp_path / "small").eval())
    (tmp_path / "adapter").rename(tmp_path / "large")
    (tmp_path / "small").rename(tmp_path / "adapter")
    assert relative(logits(merged_here(tmp_path)), logits(small)) < 1e-5
