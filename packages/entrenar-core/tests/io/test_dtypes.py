"""The table of element types, against numpy's, ml_dtypes' and safetensors' own."""

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save

from entrenar_common.errors import UnsupportedError
from entrenar_core.io.dtypes import DTYPES, by_name, by_numpy, by_torch_name, order

HELD = [dtype for dtype in DTYPES if dtype.numpy is not None]


@pytest.mark.parametrize("dtype", HELD, ids=str)
def test_bits_are_those_of_the_array_type(dtype):
    assert dtype.bits == 8 * dtype.numpy.itemsize


@pytest.mark.parametrize("dtype", HELD, ids=str)
def test_look_ups_are_inverse(dtype):
    assert by_numpy(dtype.numpy) is dtype
    assert by_name(dtype.name) is dtype
    assert by_torch_name(dtype.torch_name) is dtype


@pytest.mark.parametrize("dtype", HELD, ids=str)
def test_the_library_writes_the_same_name(dtype):
    assert f'"dtype":"{dtype.name}"'.encode() in save({"a": np.zeros(8, dtype.numpy)})


def test_the_order_is_the_librarys():
    written = save({f"{i:02d}": np.zeros(8, d.numpy) for i, d in enumerate(HELD)})
    places = [written.index(f'"dtype":"{d.name}"'.encode()) for d in HELD]
    assert places == sorted(places, reverse=True)
    assert [order(d) for d in DTYPES] == list(range(len(DTYPES)))


def test_names_of_configs_are_known_with_and_without_prefix():
    assert by_torch_name("torch.bfloat16").numpy == ml_dtypes.bfloat16
    assert by_torch_name("float16").numpy == np.float16


def test_byte_order_does_not_matter():
    assert by_numpy(np.dtype(">f4")).name == "F32"


@pytest.mark.parametrize("dtype", ["S4", "O", "M8[s]", "c16", "f2,f2", "U3"])
def test_other_array_types_are_unsupported(dtype):
    with pytest.raises(UnsupportedError, match="no counterpart"):
        by_numpy(np.dtype(dtype))


def test_an_unknown_name_suggests_the_nearest():
    with pytest.raises(UnsupportedError) as caught:
        by_name("BF61")
    assert "BF16" in (caught.value.hint or "")
    with pytest.raises(UnsupportedError):
        by_torch_name("auto")
