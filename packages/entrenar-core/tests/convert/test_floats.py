"""Numbers brought into another float type: the nearest ones, or an error."""

import ml_dtypes
import numpy as np
import pytest

from entrenar_common.errors import NumericsError, UnsupportedError
from entrenar_core.convert.floats import DTYPES, cast, cast_pieces, dtype_named
from entrenar_core.quant.pieces import PIECE

TYPES = (np.float64, np.float32, np.float16, ml_dtypes.bfloat16)


def every_bfloat16():
    """All bfloat16 numbers that float16 can hold too, and neighbours between them."""
    bits = np.arange(2**16, dtype=np.uint32) << 16
    numbers = np.concatenate([bits + extra for extra in (0, 1, 0x7FFF, 0x8000, 0x8001)])
    floats = numbers.astype(np.uint32).view(np.float32)
    return floats[np.abs(floats) < 65000]


@pytest.mark.parametrize("target", DTYPES)
@pytest.mark.parametrize("source", TYPES, ids=lambda kind: np.dtype(kind).name)
def test_numbers_are_those_of_numpy_and_ml_dtypes(source, target):
    _, dtype = DTYPES[target]
    array = every_bfloat16().astype(source)
    wanted = array.astype(dtype)
    assert cast(array, dtype, "w").tobytes() == wanted.tobytes()


def test_doubles_are_rounded_once():
    tie = 1 + 2**-11  # between two float16: float32 would take what is just above for the tie
    assert cast(np.array([tie + 2**-40]), np.dtype(np.float16), "w")[0] == np.float16(1 + 2**-10)


@pytest.mark.parametrize(("source", "target", "value"), [
    (np.float32, "f16", 65520.0), (np.float64, "f32", 1e39), (np.float64, "bf16", -1e39),
    (ml_dtypes.bfloat16, "f16", 1e5), (np.float32, "bf16", 3.4e38),
])  # fmt: skip
def test_a_number_that_would_become_infinite_is_an_error(source, target, value):
    array = np.array([[1, np.nan], [value, np.inf]]).astype(source)
    with pytest.raises(NumericsError, match=r"here: .*does not fit"):
        cast(array, DTYPES[target][1], "here")


def test_what_is_not_finite_stays_so():
    array = np.array([np.inf, -np.inf, np.nan, 1.5], np.float32)
    found = cast(array, DTYPES["f16"][1], "w")
    assert np.array_equal(found, array.astype(np.float16), equal_nan=True)


@pytest.mark.parametrize("shape", [(), (0, 3), (5,), (3, PIECE), (PIECE + 1,)], ids=str)
def test_pieces_are_the_array_in_order(shape):
    array = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    found = list(cast_pieces(array, DTYPES["bf16"][1], "w"))
    assert all(piece.size <= PIECE for piece in found)
    wanted = array.astype(ml_dtypes.bfloat16)
    assert b"".join(piece.tobytes() for piece in found) == wanted.tobytes()
    assert cast(array, DTYPES["bf16"][1], "w").shape == shape


def test_a_view_in_another_order_is_cast_in_c_order():
    array = np.arange(12, dtype=np.float32).reshape(3, 4).T
    assert np.array_equal(cast(array, DTYPES["f16"][1], "w"), array.astype(np.float16))


def test_a_type_that_is_no_float_is_unsupported():
    with pytest.raises(UnsupportedError, match="q4_0"):
        dtype_named("q4_0")
