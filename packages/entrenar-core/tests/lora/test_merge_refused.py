"""What cannot be merged into a base on a disk is refused, and what fails leaves nothing."""

import errno
import re

import numpy as np
import pytest

from adapter_files import DOWN, PREFIX, Q, factors, write_peft
from entrenar_common.errors import (
    ConfigError,
    NumericsError,
    RefusedError,
    StorageError,
    UnsupportedError,
)
from entrenar_core.convert.merge import write_merged_model
from entrenar_core.io.faults import inject
from entrenar_core.io.safetensors import (
    write_file,
)
from entrenar_core.lora.base import Base
from entrenar_core.lora.changes import Weighted, changes
from entrenar_core.lora.merge import check_output
from entrenar_core.lora.merged import Merged
from entrenar_core.lora.stored import StoredAdapter
from merge_files import NAMES, merge, tensors_of
from model_files import SMALL, write_model


@pytest.fixture
def base(tmp_path):
    return write_model(tmp_path / "base", SMALL)


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
