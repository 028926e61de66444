"""An adapter from two models: exact where the difference is of low rank, and honest elsewhere."""

import numpy as np
import pytest

from entrenar_common.errors import ConfigError
from entrenar_core.io.safetensors import SafetensorsFolder, write_folder
from entrenar_core.lora.base import Base
from entrenar_core.lora.changes import Weighted, changes
from entrenar_core.lora.extract import extract
from entrenar_core.lora.merge import write_merged
from entrenar_core.lora.merged import Merged
from entrenar_core.lora.stored import StoredAdapter
from entrenar_core.lora.write import write_adapter
from entrenar_core.testing import difference
from model_files import CONFIGS, write_model

Q, V = "model.layers.0.self_attn.q_proj.weight", "model.layers.1.self_attn.v_proj.weight"


def tensors_of(folder):
    with SafetensorsFolder(folder) as file:
        return {name: np.array(file.read(name)) for name in file.names()}


@pytest.fixture
def models_of(tmp_path):
    """A function that writes a base, and the same with some tensors changed."""

    def make(kind="llama", **changed):
        base = write_model(tmp_path / "base", CONFIGS[kind])
        tensors = tensors_of(base)
        for name, change in changed.items():
            name = name.replace("__", ".")
            tensors[name] = tensors[name] + change(tensors[name].shape)
        (tmp_path / "tuned").mkdir()
        write_folder(tmp_path / "tuned", tensors)
        return base, tmp_path / "tuned"

    return make


def of_rank(rank, seed=0):
    def change(shape):
        rng = np.random.default_rng(seed)
        left = rng.standard_normal((shape[0], rank), np.float32)
        return left @ rng.standard_normal((rank, shape[1]), np.float32)

    return change


def any_change(shape):
    return np.random.default_rng(1).standard_normal(shape, np.float32)


def names(*wanted, of=None):
    return {name.replace(".", "__"): of for name in wanted}


def rebuilt(base, content, tmp_path):
    """The base with the extracted adapter merged in."""
    write_adapter(tmp_path / "adapter", content)
    with Base(base) as opened, StoredAdapter(tmp_path / "adapter") as stored:
        write_merged(Merged(opened, changes(opened, [Weighted(stored)])), tmp_path / "out")
    return tensors_of(tmp_path / "out")


@pytest.mark.parametrize(
    ("kind", "low", "whole"),
    [
        ("llama", (Q, V), ("model.norm.weight", "model.embed_tokens.weight", "lm_head.weight")),
        ("llama, biases", (Q, V), ("model.layers.0.self_attn.q_proj.bias", "model.norm.weight")),
        (
            "gpt2",
            ("transformer.h.0.attn.c_attn.weight", "transformer.h.1.mlp.c_proj.weight"),
            ("transformer.wpe.weight", "transformer.h.0.ln_1.bias"),
        ),
    ],
)
def test_a_difference_of_low_rank_is_found_whole(models_of, tmp_path, kind, low, whole):
    changed = names(*low, of=of_rank(3)) | names(*whole, of=any_change)
    base, tuned = models_of(kind, **changed)
    content, found = extract(base, tuned, rank=4)
    assert {t.tensor: t.rank for t in found} == dict.fromkeys(low, 4) | dict.fromkeys(whole)
    assert max(t.error for t in found) < 1e-5
    after, wanted = rebuilt(base, content, tmp_path), tensors_of(tuned)
    assert all(difference(after[name], wanted[name]) < 1e-5 for name in wanted)


def test_the_error_and_the_difference_are_those_of_the_matrices(models_of):
    base, tuned = models_of(**names(Q, of=any_change))
    _, (found,) = extract(base, tuned, rank=8)
    before, after = tensors_of(base)[Q], tensors_of(tuned)[Q]
    s = np.linalg.svd((after - before).astype(np.float64), compute_uv=False)
    assert found.error == pytest.approx(np.sqrt((s[8:] ** 2).sum() / (s**2).sum()), rel=1e-4)
    relative = np.linalg.norm(after - before) / np.linalg.norm(before)
    assert found.difference == pytest.approx(relative, rel=1e-5)


def test_targets_are_named_shortly_where_that_means_the_same(models_of):
    every = [f"model.layers.{i}.self_attn.v_proj.weight" for i in range(2)]
    base, tuned = models_of(**names(Q, *every, of=of_rank(2)))
    content, _ = extract(base, tuned, rank=2)
    assert content.settings.lora.target_modules == (Q.removesuffix(".weight"), "v_proj")


def test_models_that_are_the_same_are_refused(models_of):
    base, tuned = models_of()
    with pytest.raises(ConfigError, match="has the numbers of"):
        extract(base, tuned, rank=2)


def test_models_of_other_shapes_are_refused_with_their_names(models_of, tmp_path):
    base, tuned = models_of()
    tensors = tensors_of(tuned) | {Q: np.ones((3, 3), np.float32)}
    del tensors[V]
    write_folder(tuned, tensors)
    with pytest.raises(ConfigError) as caught:
        extract(base, tuned, rank=2)
    assert f"{Q}: [64, 64] and [3, 3]" in caught.value.report()
    assert f"{V}: only in {base}" in caught.value.report()
