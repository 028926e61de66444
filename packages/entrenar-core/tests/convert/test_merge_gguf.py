"""Merging into GGUF files, and from them: the same numbers as in a folder."""

import numpy as np
import pytest

from adapter_files import PREFIX, Q, factors, write_peft
from entrenar_common.errors import UnsupportedError
from entrenar_core import models
from entrenar_core.convert.export import export
from entrenar_core.convert.merge import write_merged_model
from entrenar_core.io.gguf import GGUFFile
from entrenar_core.lora.base import Base
from entrenar_core.lora.changes import Weighted, changes
from entrenar_core.lora.merged import Merged
from entrenar_core.lora.stored import StoredAdapter
from entrenar_core.quant import BY_NUMBER
from entrenar_core.testing import difference
from model_files import CONFIGS, write_model

IDS = np.arange(20)[None]
SHAPES = {
    "llama": {Q: (64, 64), "model.layers.1.self_attn.k_proj": (32, 64), "lm_head": (300, 64)},
    "llama, tied": {Q: (64, 64), "lm_head": (300, 64)},
    "gpt2": {"transformer.h.0.attn.c_attn": (192, 64), "transformer.h.1.mlp.c_fc": (96, 64)},
}


def merge(base, adapter, output, **options):
    recipe = options.pop("recipe", None)
    with Base(base) as opened, StoredAdapter(adapter) as stored:
        found = changes(opened, [Weighted(stored)])
        write_merged_model(Merged(opened, found, **options), output, recipe=recipe)


@pytest.fixture
def made(tmp_path):
    """A function that writes a base and an adapter of it."""

    def make(kind):
        base = write_model(tmp_path / "base", CONFIGS[kind])
        tensors = {name: 0.1 * array for name, array in factors(SHAPES[kind]).items()}
        names = [name.rpartition(".")[2] for name in SHAPES[kind]]
        return base, write_peft(
            tmp_path / "adapter", tensors, target_modules=names, fan_in_fan_out=kind == "gpt2"
        )

    return make


def logits(path):
    return models.load(path)(IDS).numpy()


@pytest.mark.parametrize("kind", SHAPES)
def test_every_way_gives_the_model_that_the_folder_is(tmp_path, made, kind):
    base, adapter = made(kind)
    merge(base, adapter, tmp_path / "folder")
    wanted = logits(tmp_path / "folder")
    assert difference(wanted, logits(base)) > 0.01
    export(base, tmp_path / "base.gguf", form="gguf", quantization="f32")
    merge(base, adapter, tmp_path / "a.gguf")
    merge(tmp_path / "base.gguf", adapter, tmp_path / "b.gguf")
    merge(tmp_path / "base.gguf", adapter, tmp_path / "c", dtype="f32")
    for name in ("a.gguf", "b.gguf", "c"):
        assert difference(logits(tmp_path / name), wanted) < 1e-6


def test_in_a_gguf_base_what_does_not_change_stays_as_it_is(tmp_path, made):
    base, adapter = made("llama")
    export(base, tmp_path / "base.gguf", form="gguf", quantization="q8_0")
    merge(tmp_path / "base.gguf", adapter, tmp_path / "out.gguf")
    with GGUFFile(tmp_path / "base.gguf") as before, GGUFFile(tmp_path / "out.gguf") as after:
        assert list(before.metadata) == list(after.metadata)
        assert before.tensors.keys() == after.tensors.keys()
        same = {
            name
            for name in before.names()
            if np.array_equal(before.read(name).data, after.read(name).data)
        }
        forms = {name: after.info(name).form.name for name in after.names()}
        assert forms == {name: before.info(name).form.name for name in before.names()}
    changed = {"blk.0.attn_q.weight", "blk.1.attn_k.weight", "output.weight"}
    assert before.tensors.keys() - same == changed


def test_a_recipe_writes_all_tensors_anew(tmp_path, made):
    base, adapter = made("llama")
    for name in ("one", "two"):
        merge(base, adapter, tmp_path / f"{name}.gguf", recipe="q8_0")
    with GGUFFile(tmp_path / "one.gguf") as file:
        assert file.info("blk.0.attn_q.weight").form.name == "q8_0"
    merge(base, adapter, tmp_path / "folder")
    export(tmp_path / "folder", tmp_path / "two.gguf", form="gguf", quantization="q8_0")
    with GGUFFile(tmp_path / "one.gguf") as one, GGUFFile(tmp_path / "two.gguf") as two:
        for name in one.names():
            assert np.array_equal(one.read(name).data, two.read(name).data)


def test_a_format_that_nothing_writes_is_named(tmp_path, made):
    base, adapter = made("llama")
    export(base, tmp_path / "base.gguf", form="gguf", quantization="f16")
    form = BY_NUMBER[1]
    encode = form.encode
    object.__setattr__(form, "encode", None)  # as q2_k's is, whose blocks are too wide for this
    try:
        with pytest.raises(UnsupportedError, match="stored as f16, which nothing here writes"):
            merge(tmp_path / "base.gguf", adapter, tmp_path / "out.gguf")
    finally:
        object.__setattr__(form, "encode", encode)
    assert not (tmp_path / "out.gguf").exists()


def test_a_module_that_gguf_has_no_place_for_is_named(tmp_path, made):
    base, _ = made("llama")
    export(base, tmp_path / "base.gguf", form="gguf", quantization="f32")
    tensors = factors({Q: (64, 64)}) | {f"{PREFIX}score.weight": np.ones((2, 64), np.float32)}
    adapter = write_peft(
        tmp_path / "b", tensors, target_modules=["q_proj"], modules_to_save=["score"]
    )
    with pytest.raises(UnsupportedError, match=r"score\.weight: GGUF files of llama have no place"):
        merge(tmp_path / "base.gguf", adapter, tmp_path / "out.gguf")
