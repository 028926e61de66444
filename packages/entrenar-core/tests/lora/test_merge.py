"""Merging into a base on a disk: W + s·B·A in whatever file, and what is refused."""

import errno
import json
import re

import ml_dtypes
import numpy as np
import pytest

from adapter_files import DOWN, PREFIX, K, Q, dense, factors, write_peft
from entrenar_common.errors import (
    ConfigError,
    NumericsError,
    RefusedError,
    StorageError,
    UnsupportedError,
)
from entrenar_core import models
from entrenar_core.convert.merge import check_written, write_merged_model
from entrenar_core.io.faults import inject
from entrenar_core.io.safetensors import (
    SafetensorsFile,
    SafetensorsFolder,
    write_file,
    write_folder,
)
from entrenar_core.io.torch_save import TorchFile, write_torch
from entrenar_core.lora.base import Base
from entrenar_core.lora.changes import Weighted, changes
from entrenar_core.lora.merge import check_output
from entrenar_core.lora.merged import Merged
from entrenar_core.lora.stored import StoredAdapter
from entrenar_core.testing import difference
from model_files import CONFIGS, SMALL, write_model

NAMES = {module: f"{module}.weight" for module in (Q, K, DOWN)}


@pytest.fixture
def base(tmp_path):
    return write_model(tmp_path / "base", SMALL)


def tensors_of(path):
    """All tensors of a folder or file."""
    if path.is_dir():
        opened = SafetensorsFolder(path)
    else:
        opened = TorchFile(path) if path.suffix == ".bin" else SafetensorsFile(path)
    with opened as file:
        return {name: np.array(file.read(name)) for name in file.names()}


def merge(base, adapter, output, *, factor=1.0, recipe=None, **options):
    """Merge one adapter; returns the changes."""
    with Base(base) as opened, StoredAdapter(adapter) as stored:
        found = changes(opened, [Weighted(stored, factor)])
        check_written(opened, output, recipe or options.get("dtype"))
        write_merged_model(Merged(opened, found, **options), output, recipe=recipe)
    return found


@pytest.mark.parametrize("name", ["out", "out.safetensors", "out.bin"])
def test_changed_weights_are_the_formula_and_others_are_as_they_were(base, tmp_path, name):
    adapter = write_peft(tmp_path / "adapter")
    merge(base, adapter, tmp_path / name)
    before, after = tensors_of(base), tensors_of(tmp_path / name)
    assert before.keys() == after.keys()
    for module, weight in NAMES.items():
        wanted = before[weight] + dense(factors(), module, 6 / 4)
        assert difference(after[weight], wanted) < 1e-6
    others = before.keys() - NAMES.values()
    assert all(before[name].tobytes() == after[name].tobytes() for name in others)


@pytest.mark.parametrize("source", ["sharded", "lone.safetensors", "pytorch_model.bin"])
def test_a_base_may_be_shards_or_a_lone_file(base, tmp_path, source):
    wanted, there = tensors_of(base), tmp_path / source
    adapter = write_peft(tmp_path / "adapter")
    if source == "sharded":
        there.mkdir()
        write_folder(there, wanted, max_shard_bytes=50_000)
        assert len(list(there.glob("*.safetensors"))) > 2
    elif source.endswith("bin"):
        write_torch(there, wanted)
    else:
        write_file(there, wanted)
    merge(there, adapter, tmp_path / "out.safetensors")
    merge(base, adapter, tmp_path / "same.safetensors")
    assert (tmp_path / "out.safetensors").read_bytes() == (
        tmp_path / "same.safetensors"
    ).read_bytes()


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.float16], ids=["bf16", "f16"])
def test_narrow_weights_are_computed_in_float32_and_rounded_once(base, tmp_path, dtype):
    narrow = {n: a.astype(dtype) for n, a in tensors_of(base).items()}
    write_file(tmp_path / "narrow.safetensors", narrow)
    adapter = write_peft(tmp_path / "adapter")
    merge(tmp_path / "narrow.safetensors", adapter, tmp_path / "out.safetensors")
    after = tensors_of(tmp_path / "out.safetensors")
    for module, weight in NAMES.items():
        exact = narrow[weight].astype(np.float64) + dense(factors(), module, 6 / 4)
        noise = 1e-6 * np.abs(exact).max()  # float32's own rounding
        low, high = ((exact + n).astype(dtype).astype(np.float64) for n in (-noise, noise))
        found = after[weight].astype(np.float64)
        assert after[weight].dtype == dtype
        assert ((low <= found) & (found <= high)).all()


def test_weights_of_float64_are_added_to_in_float64(base, tmp_path):
    wide = {n: a.astype(np.float64) / 3 for n, a in tensors_of(base).items()}
    write_file(tmp_path / "wide.safetensors", wide)
    merge(tmp_path / "wide.safetensors", write_peft(tmp_path / "a"), tmp_path / "out.safetensors")
    after = tensors_of(tmp_path / "out.safetensors")
    wanted = wide[NAMES[Q]] + dense(factors(), Q, 6 / 4)
    assert difference(after[NAMES[Q]], wanted) < 1e-12


def test_a_type_can_be_asked_for(base, tmp_path):
    merge(base, write_peft(tmp_path / "adapter"), tmp_path / "out", dtype="bf16")
    assert {a.dtype for a in tensors_of(tmp_path / "out").values()} == {
        np.dtype(ml_dtypes.bfloat16)
    }
    assert json.loads((tmp_path / "out" / "config.json").read_text())["dtype"] == "bfloat16"
    models.load(tmp_path / "out")


def test_what_lies_beside_the_weights_is_copied(base, tmp_path):
    (base / "1_Pooling").mkdir()
    (base / "1_Pooling" / "config.json").write_text("{}")
    (base / "pytorch_model.bin.index.json").write_text("{}")
    (base / ".hidden").write_text("x")
    merge(base, write_peft(tmp_path / "adapter"), tmp_path / "out")
    found = {str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*")}
    assert {"config.json", "tokenizer.json", "1_Pooling/config.json", "model.safetensors"} <= found
    assert not {".hidden", "pytorch_model.bin.index.json"} & found
    assert (tmp_path / "out/tokenizer.json").read_bytes() == (base / "tokenizer.json").read_bytes()


def test_a_scale_of_minus_one_takes_an_adapter_out_again(base, tmp_path):
    adapter = write_peft(tmp_path / "adapter")
    merge(base, adapter, tmp_path / "out")
    merge(tmp_path / "out", adapter, tmp_path / "back", factor=-1)
    before, after = tensors_of(base), tensors_of(tmp_path / "back")
    assert all(difference(after[name], before[name]) < 1e-5 for name in before)


def test_several_adapters_add_up_in_any_order(base, tmp_path):
    one = write_peft(tmp_path / "one", factors(seed=1))
    two = write_peft(tmp_path / "two", factors({Q: (64, 64)}, seed=2), target_modules=["q_proj"])
    with Base(base) as opened, StoredAdapter(one) as a, StoredAdapter(two) as b:
        for name, order in (("forth", (a, b)), ("back", (b, a))):
            given = [Weighted(x, 0.7 if x is a else -0.3) for x in order]
            found = changes(opened, given)
            write_merged_model(Merged(opened, found), tmp_path / f"{name}.safetensors")
    forth, back = (tensors_of(tmp_path / f"{n}.safetensors") for n in ("forth", "back"))
    assert all(difference(forth[name], back[name]) < 1e-6 for name in forth)
    delta = 0.7 * dense(factors(seed=1), Q, 1.5) - 0.3 * dense(factors(seed=2), Q, 1.5)
    assert difference(forth[NAMES[Q]], tensors_of(base)[NAMES[Q]] + delta) < 1e-6


@pytest.mark.parametrize("changed", ["lm_head", "model.embed_tokens"])
def test_a_tied_output_gets_a_matrix_of_its_own(tmp_path, changed):
    base = write_model(tmp_path / "base", CONFIGS["llama, tied"])
    shape = (300, 64)
    tensors = factors({changed: shape})
    delta = dense(tensors, changed, 6 / 4)
    if changed != "lm_head":
        a, b = (tensors[f"{PREFIX}{changed}.lora_{half}.weight"] for half in "AB")
        tensors = {
            f"{PREFIX}{changed}.lora_embedding_A": np.ascontiguousarray(b.T),
            f"{PREFIX}{changed}.lora_embedding_B": np.ascontiguousarray(a.T),
        }
    adapter = write_peft(tmp_path / "adapter", tensors, target_modules=[changed.split(".")[-1]])
    found = merge(base, adapter, tmp_path / "out")
    before = tensors_of(base)["model.embed_tokens.weight"]
    after = tensors_of(tmp_path / "out")
    wanted = {"lm_head.weight": before, "model.embed_tokens.weight": before}
    wanted[f"{changed}.weight"] = before + delta
    assert all(difference(after[name], array) < 1e-6 for name, array in wanted.items())
    assert json.loads((tmp_path / "out/config.json").read_text())["tie_word_embeddings"] is False
    assert "a matrix of its own" in found.notes[0]
    models.load(tmp_path / "out")


def test_other_modules_leave_a_tied_model_tied(tmp_path):
    base = write_model(tmp_path / "base", CONFIGS["llama, tied"])
    adapter = write_peft(tmp_path / "a", factors({Q: (64, 64)}), target_modules=["q_proj"])
    found = merge(base, adapter, tmp_path / "out")
    assert not found.untied
    assert "lm_head.weight" not in tensors_of(tmp_path / "out")


@pytest.mark.parametrize("stated", [True, False])
def test_gpt2_stores_some_weights_transposed_whatever_the_flag_says(tmp_path, stated):
    """PEFT writes the flag of the module that it came to last."""
    base = write_model(tmp_path / "base", CONFIGS["gpt2"])
    square, head = "transformer.h.0.attn.c_proj", "transformer.h.1.mlp.c_fc"
    tensors = factors({square: (64, 64), head: (96, 64)})
    targets = {"target_modules": ["c_proj", "c_fc"]}
    merge(
        base,
        write_peft(tmp_path / "a", tensors, fan_in_fan_out=stated, **targets),
        tmp_path / "out",
    )
    before, after = tensors_of(base), tensors_of(tmp_path / "out")
    for module in (square, head):
        name = f"{module}.weight"
        wanted = before[name] + dense(tensors, module, 1.5).T
        assert difference(after[name], wanted) < 1e-6


def test_names_may_have_a_first_part_more_or_less_than_the_base(base, tmp_path):
    """As where the base was saved without its head, or the adapter made for a model without one."""
    inner = {n.removeprefix("model."): a for n, a in tensors_of(base).items()}
    write_file(tmp_path / "inner.safetensors", inner)
    adapter = write_peft(tmp_path / "adapter")
    merge(tmp_path / "inner.safetensors", adapter, tmp_path / "out.safetensors")
    short = {name.replace("model.model.", "model."): a for name, a in factors().items()}
    merge(base, write_peft(tmp_path / "short", short), tmp_path / "short.safetensors")
    one, other = (
        tensors_of(tmp_path / "out.safetensors"),
        tensors_of(tmp_path / "short.safetensors"),
    )
    assert all(np.array_equal(other[n], one[n.removeprefix("model.")]) for n in other)


def test_nothing_of_the_base_is_in_memory_as_a_whole(tmp_path):
    """The pieces of a tensor are a few MiB, however large it is."""
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((4096, 2048), np.float32).astype(ml_dtypes.bfloat16)
    write_file(tmp_path / "base.safetensors", {"q_proj.weight": weight, "other.weight": weight})
    tensors = factors({"q_proj": weight.shape})
    adapter = write_peft(tmp_path / "adapter", tensors, target_modules=["q_proj"])
    with Base(tmp_path / "base.safetensors") as base, StoredAdapter(adapter) as stored:
        merged = Merged(base, changes(base, [Weighted(stored)]))
        for name in merged:
            assert max(piece.nbytes for piece in merged[name].pieces()) <= 8 * 2**20


# ---- what is refused ---------------------------------------------------------------------------


def refused(base, adapter, tmp_path, error, word, **options):
    with pytest.raises(error) as caught:
        merge(base, adapter, tmp_path / "out", **options)
    assert re.search(word, caught.value.report())
    assert caught.value.hint
    assert not [p for p in tmp_path.iterdir() if "out" in p.name]


def test_an_adapter_of_another_model_lists_what_does_not_match(base, tmp_path):
    tensors = factors({Q: (64, 48), "model.layers.9.mlp.up_proj": (96, 64)})
    adapter = write_peft(
        tmp_path / "a", tensors, target_modules=["q_proj", "up_proj"],
        base_model_name_or_path="them/other",
    )  # fmt: skip
    words = (
        r"(?s)in 2 places.*q_proj: for a weight \[64, 48\], the base's is \[64, 64\].*"
        r"layers\.9\.mlp\.up_proj: not in the base.*them/other"
    )
    refused(base, adapter, tmp_path, ConfigError, words)


@pytest.mark.parametrize("value", [np.nan, np.inf, 3e38])
def test_results_that_are_not_finite_are_refused_by_name(base, tmp_path, value):
    tensors = factors()
    tensors[f"{PREFIX}{DOWN}.lora_A.weight"][1, 2] = value
    tensors[f"{PREFIX}{DOWN}.lora_B.weight"][:] = 5
    words = r"layers\.1\.mlp\.down_proj\.weight: element \(0, 2\) would be"
    refused(base, write_peft(tmp_path / "a", tensors), tmp_path, NumericsError, words)


def test_a_result_too_large_for_its_type_is_refused(base, tmp_path):
    half = {n: a.astype(np.float16) for n, a in tensors_of(base).items()}
    write_file(tmp_path / "half.safetensors", half)
    tensors = factors()
    tensors[f"{PREFIX}{Q}.lora_B.weight"][3] *= 1e6
    with pytest.raises(NumericsError, match=r"q_proj\.weight: element \(3, .*float16"):
        merge(
            tmp_path / "half.safetensors", write_peft(tmp_path / "a", tensors),
            tmp_path / "out.safetensors",
        )  # fmt: skip


@pytest.mark.parametrize(
    ("config", "factor", "error", "word"),
    [
        ({"init_lora_weights": "pissa"}, 1, UnsupportedError, "pissa, which took a part"),
        ({"init_lora_weights": "olora"}, 1, UnsupportedError, "olora"),
        ({"use_dora": True}, 0.5, UnsupportedError, "DoRA.*0.5 times"),
        ({"lora_bias": True}, 1, ConfigError, "its B has a bias, the base has none"),
    ],
)
def test_what_cannot_be_added_is_refused(base, tmp_path, config, factor, error, word):
    tensors = factors({Q: (64, 64)})
    if "use_dora" in config:
        tensors[f"{PREFIX}{Q}.lora_magnitude_vector"] = np.ones(64, np.float32)
    if "lora_bias" in config:
        tensors[f"{PREFIX}{Q}.lora_B.bias"] = np.ones(64, np.float32)
    adapter = write_peft(tmp_path / "a", tensors, target_modules=["q_proj"], **config)
    refused(base, adapter, tmp_path, error, word, factor=factor)


def test_a_part_of_a_whole_tensor_is_refused(base, tmp_path):
    tensors = factors() | {f"{PREFIX}model.norm.weight": np.ones(64, np.float32)}
    adapter = write_peft(tmp_path / "a", tensors, modules_to_save=["norm"])
    words = r"model\.norm\.weight by a whole tensor, and cannot be taken 0\.5"
    refused(base, adapter, tmp_path, UnsupportedError, words, factor=0.5)


def test_dora_beside_another_adapter_is_refused(base, tmp_path):
    dora = factors({Q: (64, 64)}) | {f"{PREFIX}{Q}.lora_magnitude_vector": np.ones(64, np.float32)}
    one = write_peft(tmp_path / "one", dora, use_dora=True, target_modules=["q_proj"])
    two = write_peft(tmp_path / "two")
    with (
        Base(base) as opened,
        StoredAdapter(one) as a,
        StoredAdapter(two) as b,
        pytest.raises(UnsupportedError, match="depend on their order"),
    ):
        changes(opened, [Weighted(a), Weighted(b)])


def test_two_whole_tensors_for_one_are_refused(base, tmp_path):
    tensors = factors() | {f"{PREFIX}model.norm.weight": np.ones(64, np.float32)}
    adapter = write_peft(tmp_path / "a", tensors, modules_to_save=["norm"])
    with (
        Base(base) as opened,
        StoredAdapter(adapter) as stored,
        pytest.raises(UnsupportedError, match="is replaced by"),
    ):
        changes(opened, [Weighted(stored), Weighted(stored)])


def test_integers_are_no_weights_to_add_to(base, tmp_path):
    whole = tensors_of(base) | {NAMES[Q]: np.ones((64, 64), np.int8)}
    write_file(tmp_path / "base.safetensors", whole)
    with pytest.raises(UnsupportedError, match=r"q_proj\.weight is stored as I8"):
        merge(tmp_path / "base.safetensors", write_peft(tmp_path / "a"), tmp_path / "o.safetensors")


def test_a_folder_that_is_there_is_refused_and_an_empty_one_filled(base, tmp_path):
    adapter = write_peft(tmp_path / "adapter")
    (tmp_path / "out").mkdir()
    merge(base, adapter, tmp_path / "out")
    before = (tmp_path / "out" / "model.safetensors").read_bytes()
    with pytest.raises(RefusedError, match="exists already"):
        merge(base, adapter, tmp_path / "out")
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == before


@pytest.mark.parametrize(
    ("output", "word"),
    [("base", "is what is read"), ("base/model.safetensors", "is a file of"), (".", "in it"),
     ("base/inner", "is what is read")],
)  # fmt: skip
def test_an_output_among_the_inputs_is_refused(base, tmp_path, output, word):
    with pytest.raises(ConfigError, match=word):
        check_output(tmp_path / output, [base])


def test_a_folder_needs_a_config_and_a_lone_file_has_none(base, tmp_path):
    write_file(tmp_path / "lone.safetensors", tensors_of(base))
    adapter = write_peft(tmp_path / "a")
    for name in ("out", "out.gguf"):
        with pytest.raises(ConfigError, match="config"):
            merge(tmp_path / "lone.safetensors", adapter, tmp_path / name)
        assert not (tmp_path / name).exists()


@pytest.mark.parametrize(("name", "dtype"), [("out", "q8_0"), ("out.gguf", "q9"), ("o.bin", "f8")])
def test_a_type_that_cannot_be_is_refused(base, tmp_path, name, dtype):
    with pytest.raises(UnsupportedError) as caught:
        merge(base, write_peft(tmp_path / "a"), tmp_path / name, recipe=dtype)
    assert caught.value.hint


# ---- faults ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["out", "out.safetensors", "out.bin"])
def test_a_failing_operation_leaves_all_or_nothing(base, ram_path, name):
    """Whichever it is: the output is not there, or it is complete, and nothing else is left."""
    adapter = write_peft(ram_path / "adapter")
    with Base(base) as opened, StoredAdapter(adapter) as stored:
        found = changes(opened, [Weighted(stored)])
        (ram_path / "whole").mkdir()
        with inject() as count:
            write_merged_model(Merged(opened, found), ram_path / "whole" / name)
        wanted = tensors_of(ram_path / "whole" / name)
        for at in range(1, len(count.calls) + 1):
            output = ram_path / f"try {at}" / name
            output.parent.mkdir()
            with inject(at, errno=errno.ENOSPC), pytest.raises(StorageError):
                write_merged_model(Merged(opened, found), output)
                raise StorageError("done")  # the last operations make durable what is there
            left = [path.name for path in output.parent.iterdir()]
            assert left in ([], [name])
            if left:
                assert tensors_of(output).keys() == wanted.keys()


def test_a_full_disk_during_a_merge_leaves_nothing(base, tmp_path):
    adapter = write_peft(tmp_path / "adapter")
    with Base(base) as opened, StoredAdapter(adapter) as stored:
        found = changes(opened, [Weighted(stored)])
        with inject() as count:
            write_merged_model(Merged(opened, found), tmp_path / "first")
        at = count.calls.index("write") + 1
        with inject(at, errno=errno.ENOSPC, forever=False), pytest.raises(StorageError) as caught:
            write_merged_model(Merged(opened, found), tmp_path / "second")
    assert "free some space" in str(caught.value.hint)
    assert not [p for p in tmp_path.iterdir() if "second" in p.name]
