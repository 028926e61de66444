"""Folders with weights in NF4: what is read, and what is refused."""

import json

import numpy as np
import pytest

from entrenar_common.errors import FormatError, UnsupportedError
from entrenar_core.io.bitsandbytes import FourBitFolder
from entrenar_core.io.safetensors import write_folder
from entrenar_core.kernels.nf4 import ENTRIES
from entrenar_core.quant import NF4, quantize

STATE = ".quant_state.bitsandbytes__nf4"


def described(state):
    return np.frombuffer(json.dumps(state).encode(), np.uint8)


def stored_as(name, array, *, double=True):
    """The tensors of a weight, from the layout in bitsandbytes' `QuantState.as_dict`."""
    stored = quantize(array, NF4(double=double))
    state = {
        "quant_type": "nf4", "blocksize": 64, "dtype": "float32", "shape": list(array.shape)
    }  # fmt: skip
    tensors = {
        name: stored.codes[:, None],
        f"{name}.absmax": stored.scales.codes,
        f"{name}.quant_map": ENTRIES,
    }
    if double:
        tensors[f"{name}.nested_absmax"] = stored.scales.absmax
        tensors[f"{name}.nested_quant_map"] = stored.scales.map
        state |= {
            "nested_blocksize": 256, "nested_dtype": "float32",
            "nested_offset": float(stored.scales.offset),
        }  # fmt: skip
    return tensors | {f"{name}{STATE}": described(state)}


def weights(*shape):
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("double", [True, False])
@pytest.mark.parametrize("shape", [(6, 64), (3, 43), (1,)])
def test_a_weight_is_one_tensor_of_its_own_shape(tmp_path, shape, double):
    x = weights(*shape)
    write_folder(tmp_path, {**stored_as("a.weight", x, double=double), "norm": weights(4)})
    with FourBitFolder(tmp_path) as folder:
        assert folder.names() == ["a.weight", "norm"]
        assert folder.info("a.weight").shape == shape
        assert folder.parameter_count == x.size + 4
        wanted = quantize(x, NF4(double=double))
        assert np.array_equal(folder.read("a.weight"), wanted.dequantize())
        assert folder.stored("a.weight").nbytes == wanted.nbytes
        assert np.array_equal(folder.read("norm"), weights(4))
        assert (folder.is_stored("a.weight"), folder.is_stored("norm")) == (True, False)


def test_the_entries_of_the_scales_are_those_of_the_file(tmp_path):
    # versions of bitsandbytes differ: old ones changed the first entry to −1
    tensors = stored_as("w", weights(300, 64))
    nested = np.linspace(-1, 1, 256, dtype=np.float32)
    write_folder(tmp_path, {**tensors, "w.nested_quant_map": nested})
    with FourBitFolder(tmp_path) as folder:
        codes, absmax = tensors["w.absmax"], tensors["w.nested_absmax"]
        offset = json.loads(tensors[f"w{STATE}"].tobytes())["nested_offset"]
        wanted = nested[codes] * np.repeat(absmax, 256)[: codes.size] + np.float32(offset)
        assert np.array_equal(folder.stored("w").scales.values(), wanted)


def without(end):
    return lambda tensors, state: tensors.pop(f"w{end}")


def with_array(end, array):
    return lambda tensors, state: tensors.update({f"w{end}": array})


def with_state(**changes):
    return lambda tensors, state: state.update(changes)


BROKEN = {
    "no scales": (without(".absmax"), "w: w.absmax is missing"),
    "no nested scales": (without(".nested_absmax"), "w: w.nested_absmax is missing"),
    "too few scales": (
        with_array(".absmax", np.zeros(5, np.uint8)), "absmax is uint8 of 5 elements.* of 6",
    ),
    "scales of another type": (
        with_array(".absmax", np.zeros(6, np.float32)), "absmax is float32 of 6.*wanted uint8",
    ),
    "too few codes": (with_array("", np.zeros((100, 1), np.uint8)), "100 bytes for 384 codes"),
    "a block of 48": (with_state(blocksize=48), "its quant_state has blocksize 48"),
    "a negative shape": (with_state(shape=[-6, 64]), "has shape .-6, 64"),
    "a shape beyond memory": (with_state(shape=[2**62, 2**62]), "has shape"),
    "another dtype": (with_state(dtype="int8"), "has dtype 'int8'"),
    "an offset that is text": (with_state(nested_offset="1"), "has nested_offset '1'"),
    "a nested block of 0": (with_state(nested_blocksize=0), "has nested_blocksize 0"),
    "a list": (with_array(STATE, described([1])), "its quant_state is no JSON object"),
    "no text": (with_array(STATE, np.array([255, 254], np.uint8)), "not UTF-8"),
    "no bytes": (with_array(STATE, np.zeros(3, np.float32)), "its quant_state is float32"),
    "no JSON": (with_array(STATE, np.array([123], np.uint8)), "not valid JSON"),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_what_does_not_fit_together_is_named(tmp_path, case):
    change, message = BROKEN[case]
    tensors = stored_as("w", weights(6, 64))
    state = json.loads(tensors[f"w{STATE}"].tobytes())
    before = dict(state)
    change(tensors, state)
    if state != before:
        tensors[f"w{STATE}"] = described(state)
    write_folder(tmp_path, tensors)
    with pytest.raises(FormatError, match=message), FourBitFolder(tmp_path) as folder:
        folder.read("w")


def test_other_entries_than_those_of_nf4_are_refused(tmp_path):
    write_folder(tmp_path, {**stored_as("w", weights(6, 64)), "w.quant_map": ENTRIES[::-1].copy()})
    with (
        FourBitFolder(tmp_path) as folder,
        pytest.raises(UnsupportedError, match="w: its quant_map is not NF4's"),
    ):
        folder.read("w")


def test_fp4_is_refused(tmp_path):
    state = {"w.quant_state.bitsandbytes__fp4": described({"quant_type": "fp4"})}
    write_folder(tmp_path, {"w": np.zeros((2, 1), np.uint8), **state})
    with pytest.raises(UnsupportedError, match="w is in FP4"):
        FourBitFolder(tmp_path)
