"""Models loaded with their matrices in 16 bits: frozen, and otherwise as with rounded weights."""

import numpy as np
import pytest

from entrenar_common.errors import UnsupportedError
from entrenar_core import models
from entrenar_core.models.base import HELD
from entrenar_core.testing import difference, tiny_config, tiny_llama

IDS = np.array([[3, 1, 4, 1, 5], [9, 2, 6, 5, 3]])
KINDS = {
    "llama": tiny_config(),
    "gpt2": {"model_type": "gpt2", "vocab_size": 61, "n_embd": 24, "n_layer": 2, "n_head": 4,
             "n_positions": 32},
    "bert": {"model_type": "bert", "vocab_size": 61, "hidden_size": 24, "num_hidden_layers": 2,
             "num_attention_heads": 4, "intermediate_size": 40, "max_position_embeddings": 32},
}  # fmt: skip


@pytest.fixture(params=KINDS)
def folder(request, tmp_path):
    models.save(models.from_config(KINDS[request.param], seed=0), tmp_path)
    return tmp_path


def rounded(model, dtype):
    """`model` in float32 with its matrices rounded to `dtype`."""
    for parameter in model.named_parameters().values():
        if parameter.data.ndim >= 2:
            parameter.data = parameter.data.astype(HELD[dtype]).astype(np.float32)
    return model


@pytest.mark.parametrize("dtype", HELD)
def test_it_computes_what_the_rounded_weights_give_in_float32(folder, dtype):
    held = models.load(folder, dtype=dtype)
    wanted = rounded(models.load(folder), dtype)(IDS).data
    found = held(IDS).data
    assert found.dtype == np.float32
    assert difference(found, wanted) <= 1e-6


@pytest.mark.parametrize("dtype", HELD)
def test_matrices_take_two_bytes_a_number_and_nothing_is_trained(folder, dtype):
    parameters = models.load(folder, dtype=dtype).named_parameters().values()
    assert {p.dtype.itemsize for p in parameters if p.data.ndim >= 2} == {2}
    assert {p.dtype for p in parameters if p.data.ndim < 2} == {np.dtype(np.float32)}
    assert not any(p.requires_grad for p in parameters)


def test_it_generates_with_a_cache_in_float32(tmp_path):
    models.save(tiny_llama(), tmp_path)
    held = models.load(tmp_path, dtype="bfloat16")
    wanted = models.generate(rounded(models.load(tmp_path), "bfloat16"), IDS[0], max_new_tokens=8)
    assert np.array_equal(models.generate(held, IDS[0], max_new_tokens=8), wanted)


def test_layers_taken_from_it_are_trained_in_float32(tmp_path):
    models.save(tiny_llama(), tmp_path)
    student = models.with_layers(models.load(tmp_path, dtype="bfloat16"), [1])
    assert all(p.dtype == np.float32 and p.requires_grad for p in student.parameters())


def test_another_type_is_refused(tmp_path):
    models.save(tiny_llama(), tmp_path)
    with pytest.raises(UnsupportedError, match="int8"):
        models.load(tmp_path, dtype="int8")
