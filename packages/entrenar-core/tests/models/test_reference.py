"""The reference configurations, and describing models without their memory."""

import math
import tracemalloc

import pytest

from entrenar_common.errors import UnsupportedError
from entrenar_core import models
from entrenar_core.testing import tiny_config, tiny_model


def closed_form(c):
    """LLaMA's parameters: table and head, and for each layer attention, gated layer, two norms."""
    width, groups = c["hidden_size"], c.get("num_key_value_heads", c["num_attention_heads"])
    keys = width * groups // c["num_attention_heads"]
    layer = 2 * width * width + 2 * width * keys + 3 * width * c["intermediate_size"] + 2 * width
    tables = (1 if c["tie_word_embeddings"] else 2) * c["vocab_size"] * width
    return tables + c["num_hidden_layers"] * layer + width


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("llama-124m", 123_551_232),
        ("llama-7b", 6_738_415_616),
        ("llama-13b", 13_015_864_320),
        ("llama-70b", 68_976_648_192),
    ],
)
def test_the_reference_models_have_their_sizes(name, count):
    config = models.reference_config(name)
    assert closed_form(config) == count
    assert models.parameter_count(config) == count


def test_describing_a_model_allocates_next_to_nothing():
    tracemalloc.start()
    shapes = models.parameter_shapes(models.reference_config("llama-70b"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert shapes["model.layers.79.self_attn.k_proj.weight"] == (1024, 8192)
    assert peak < 10_000_000


@pytest.mark.parametrize("kind", ["llama", "mistral", "qwen2", "qwen3", "gpt2"])
@pytest.mark.parametrize("head", ["causal-lm", "sequence-classification"])
def test_the_shapes_are_those_of_the_model(kind, head):
    model = tiny_model(kind, head=head, tie_word_embeddings=True)
    shapes = models.parameter_shapes(tiny_config(kind, tie_word_embeddings=True), head=head)
    assert shapes == {name: p.shape for name, p in model.named_parameters().items()}
    assert model.parameter_count() == sum(map(math.prod, shapes.values()))


def test_a_reference_configuration_can_be_changed_without_changing_the_next():
    models.reference_config("llama-7b")["hidden_size"] = 1
    assert models.reference_config("llama-7b")["hidden_size"] == 4096


def test_an_unknown_name_is_refused_with_the_known_ones():
    with pytest.raises(UnsupportedError, match="llama-3") as caught:
        models.reference_config("llama-3")
    assert "did you mean llama-3-8b?" in caught.value.hint
    assert "llama-2-70b" in caught.value.hint


COMMON = {
    "attention_dropout": 0.0, "hidden_act": "silu", "initializer_range": 0.02,
    "torch_dtype": "bfloat16", "transformers_version": "4.45.0", "use_cache": True,
}  # fmt: skip
PUBLISHED = {
    "TinyLlama 1.1B": (
        {
            **COMMON, "architectures": ["LlamaForCausalLM"], "attention_bias": False,
            "bos_token_id": 1, "eos_token_id": 2, "hidden_size": 2048, "intermediate_size": 5632,
            "max_position_embeddings": 2048, "model_type": "llama", "num_attention_heads": 32,
            "num_hidden_layers": 22, "num_key_value_heads": 4, "pretraining_tp": 1,
            "rms_norm_eps": 1e-05, "rope_scaling": None, "rope_theta": 10000.0,
            "tie_word_embeddings": False, "vocab_size": 32000,
        },
        1_100_048_384,
    ),
    "Llama 3.2 1B": (
        {
            **COMMON, "architectures": ["LlamaForCausalLM"], "attention_bias": False,
            "bos_token_id": 128000, "eos_token_id": [128001, 128008, 128009], "head_dim": 64,
            "hidden_size": 2048, "intermediate_size": 8192, "max_position_embeddings": 131072,
            "mlp_bias": False, "model_type": "llama", "num_attention_heads": 32,
            "num_hidden_layers": 16, "num_key_value_heads": 8, "pretraining_tp": 1,
            "rms_norm_eps": 1e-05,
            "rope_scaling": {
                "factor": 32.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0,
                "original_max_position_embeddings": 8192, "rope_type": "llama3",
            },
            "rope_theta": 500000.0, "tie_word_embeddings": True, "vocab_size": 128256,
        },
        1_235_814_400,
    ),
    "Mistral 7B": (
        {
            **COMMON, "architectures": ["MistralForCausalLM"], "bos_token_id": 1,
            "eos_token_id": 2, "hidden_size": 4096, "intermediate_size": 14336,
            "max_position_embeddings": 32768, "model_type": "mistral", "num_attention_heads": 32,
            "num_hidden_layers": 32, "num_key_value_heads": 8, "rms_norm_eps": 1e-05,
            "rope_theta": 10000.0, "sliding_window": 4096, "tie_word_embeddings": False,
            "vocab_size": 32000,
        },
        7_241_732_096,
    ),
    "Qwen2.5 0.5B": (
        {
            **COMMON, "architectures": ["Qwen2ForCausalLM"], "bos_token_id": 151643,
            "eos_token_id": 151643, "hidden_size": 896, "intermediate_size": 4864,
            "max_position_embeddings": 32768, "max_window_layers": 24, "model_type": "qwen2",
            "num_attention_heads": 14, "num_hidden_layers": 24, "num_key_value_heads": 2,
            "rms_norm_eps": 1e-06, "rope_theta": 1000000.0, "sliding_window": 32768,
            "tie_word_embeddings": True, "use_mrope": False, "use_sliding_window": False,
            "vocab_size": 151936,
        },
        494_032_768,
    ),
    "Qwen3 0.6B": (
        {
            **COMMON, "architectures": ["Qwen3ForCausalLM"], "attention_bias": False,
            "bos_token_id": 151643, "eos_token_id": 151645, "head_dim": 128, "hidden_size": 1024,
            "intermediate_size": 3072, "max_position_embeddings": 40960, "max_window_layers": 28,
            "model_type": "qwen3", "num_attention_heads": 16, "num_hidden_layers": 28,
            "num_key_value_heads": 8, "rms_norm_eps": 1e-06, "rope_scaling": None,
            "rope_theta": 1000000, "sliding_window": None, "tie_word_embeddings": True,
            "use_sliding_window": False, "vocab_size": 151936,
        },
        596_049_920,
    ),
    "GPT-2 small": ({"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]}, 124_439_808),
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_configs_are_read_and_have_their_published_sizes(name):
    config, count = PUBLISHED[name]
    assert models.parameter_count(config) == count
