"""What this library is said to take to run a model, beside what its code really allocates."""

import tracemalloc

import numpy as np
import pytest

from entrenar_core import models
from entrenar_core.autograd import no_grad
from entrenar_core.estimate import find_shape
from entrenar_core.estimate.inference import Inference
from entrenar_core.estimate.own_inference import own_inference
from entrenar_core.estimate.shape import model_shape
from entrenar_core.models.cache import KVCache

GIB = 2**30
BATCH, TIME = 2, 512
DECODER = {
    "hidden_size": 192, "intermediate_size": 512, "num_hidden_layers": 2, "vocab_size": 256,
    "num_attention_heads": 6, "num_key_value_heads": 2, "max_position_embeddings": 512,
}  # fmt: skip
WIDE_HEADS = {**DECODER, "head_dim": 128, "intermediate_size": 64}  # attention decides
ENCODER = {k: v for k, v in DECODER.items() if k != "num_key_value_heads"}
CONFIGS = {
    "llama": {**DECODER, "model_type": "llama"},
    "attention": {**WIDE_HEADS, "model_type": "llama"},
    "qwen2": {**DECODER, "model_type": "qwen2"},
    "qwen3": {**DECODER, "model_type": "qwen3", "head_dim": 32},
    "mistral": {**DECODER, "model_type": "mistral", "sliding_window": 64},
    "gpt2": {
        "model_type": "gpt2", "n_embd": 192, "n_inner": 512, "n_layer": 2, "n_head": 6,
        "vocab_size": 256, "n_positions": 512, "bos_token_id": 0, "eos_token_id": 0,
    },
    "bert": {**ENCODER, "model_type": "bert", "architectures": ["BertForMaskedLM"]},
    "roberta": {
        **ENCODER, "model_type": "roberta", "architectures": ["RobertaForMaskedLM"],
        "max_position_embeddings": 514,
    },
    "distilbert": {
        "model_type": "distilbert", "architectures": ["DistilBertForMaskedLM"], "dim": 192,
        "hidden_dim": 512, "n_layers": 2, "n_heads": 6, "vocab_size": 256,
        "max_position_embeddings": 512,
    },
}  # fmt: skip
DECODERS = [name for name, raw in CONFIGS.items() if "architectures" not in raw]


def shape_of(name):
    return model_shape(CONFIGS[name], name=name, origin="")


def cache_of(name):
    config = models.from_config(CONFIGS[name], seed=0).config
    return KVCache(config, BATCH, TIME, np.dtype(np.float32))


@pytest.mark.parametrize("name", DECODERS)
def test_the_cache_takes_what_is_said(name):
    kept = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache_of(name).layers)
    said = own_inference(shape_of(name), Inference("float32", BATCH, TIME))["KV cache"]
    assert kept == said


@pytest.mark.parametrize(
    ("model", "tokens", "gib"),
    [("llama-2-7b", 4096, 4), ("llama-3-8b", 8192, 2), ("llama-2-70b", 4096, 2.5)],
)
def test_keys_and_values_are_kept_in_float32(model, tokens, gib):
    # 2 · layers · heads of keys · their width · tokens · 4 B
    memory = own_inference(find_shape(model), Inference("bfloat16", 1, tokens))
    assert memory["KV cache"] == gib * GIB


@pytest.mark.tier2
@pytest.mark.parametrize("name", CONFIGS)
def test_a_block_has_at_once_what_is_said(name):
    model = models.from_config(CONFIGS[name], seed=0)
    ids = np.full((BATCH, TIME), 5)

    def run():
        cache = {"cache": cache_of(name)} if name in DECODERS else {}
        tracemalloc.start()
        model.hidden(ids, **cache)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    with no_grad():
        run()  # kernels are loaded
        peak = run()
    said = own_inference(shape_of(name), Inference("float32", BATCH, TIME))
    # besides: ids, tables of angles, logarithms of attention, and the work space of threads
    assert said["activations of one block"] == pytest.approx(peak, rel=0.05)
