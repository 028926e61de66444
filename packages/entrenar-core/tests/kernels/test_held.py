"""Matrices in few bits: their rows, and products with them, which never widen a whole one."""

import itertools
import tracemalloc

import ml_dtypes
import numpy as np
import pytest

from entrenar_core import kernels
from entrenar_core.kernels import Held, panels
from entrenar_core.quant import FORMATS, NF4, Grain, Integer, NF4Array, quantize
from entrenar_core.quant.nf4 import Scales
from entrenar_core.testing import difference

FORMS = {
    **FORMATS,
    "nf4-32": NF4(32),
    "nf4-4096-single": NF4(4096, double=False),
    "int4-g16": Integer(4, grain=Grain("group", 16)),
    "uint3-tensor": Integer(3, symmetric=False, grain=Grain("tensor")),
    "int8-axis1": Integer(8, grain=Grain(axis=1)),
    "uint5-g5-axis1": Integer(5, symmetric=False, grain=Grain("group", 5, axis=1)),
}
EACH = pytest.mark.parametrize("form", FORMS)
ODD = {name for name in FORMS if name.startswith(("nf4", "int", "uint")) and "-g" not in name}


def normal(*shape):
    return np.random.default_rng(0).standard_normal(shape, np.float32)


def stored(form, rows=70, columns=256):
    return quantize(normal(rows, columns), FORMS[form])


def parts(rows):
    """Ranges of rows: all, single ones, and some that overlap."""
    return [(0, rows), (0, 1), (rows - 1, rows), *itertools.pairwise(range(0, rows, rows // 3))]


def check_rows(matrix):
    whole = matrix.dequantize()
    for low, high in parts(len(whole)):
        out = np.full((high - low, whole.shape[1]), np.nan, np.float32)
        assert matrix.rows(low, high, out) is out
        assert out.tobytes() == whole[low:high].tobytes()


@EACH
def test_rows_are_those_of_the_dequantized_matrix_to_the_bit(form):
    check_rows(stored(form))


@pytest.mark.parametrize("form", sorted(ODD))
@pytest.mark.parametrize("shape", [(70, 43), (5, 1), (3, 63), (9, 129)])
def test_rows_need_not_begin_where_a_block_does(form, shape):
    check_rows(stored(form, *shape))


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16], ids=["float16", "bfloat16"])
def test_numbers_of_a_matrix_that_was_in_16_bits_are_rounded_to_them(dtype):
    # from far below the smallest float16 to beyond the largest, in every block
    scales = np.exp2(np.arange(-40, 20)).astype(np.float32) * np.float32(1.2345)
    codes = np.resize(np.arange(256, dtype=np.uint8), 60 * 32)
    name = np.dtype(dtype).name
    exact = NF4Array(NF4(double=False), (60, 64), codes, Scales(scales))
    rounded = NF4Array(NF4(double=False), (60, 64), codes, Scales(scales), name)
    with np.errstate(over="ignore"):
        wanted = exact.dequantize().astype(dtype).astype(np.float32)
    assert rounded.dequantize().tobytes() == wanted.tobytes()


def test_a_scale_that_is_not_finite_stays_visible_in_16_bits():
    scales = np.array([np.nan, np.inf], np.float32)
    codes = np.resize(np.uint8([0xF0, 0x12]), 64)
    for dtype in ("float16", "bfloat16"):
        matrix = NF4Array(NF4(double=False), (2, 64), codes, Scales(scales), dtype)
        assert not np.isfinite(matrix.dequantize()).any()


@EACH
@pytest.mark.parametrize("trans_b", [False, True])
@pytest.mark.parametrize("transposed", [False, True])
def test_a_product_is_that_with_the_dequantized_matrix(form, trans_b, transposed, monkeypatch):
    monkeypatch.setattr(panels, "PANEL", 48 * 256)  # two panels
    matrix = stored(form)
    held, wide = Held(matrix), matrix.dequantize()
    if transposed:
        held, wide = held.T, wide.T
    a = normal(33, wide.shape[1] if trans_b else wide.shape[0])
    found = kernels.matmul(a, held, trans_b=trans_b)
    assert difference(found, a @ (wide.T if trans_b else wide)) <= 1e-6


@pytest.mark.parametrize("trans_a", [False, True])
@pytest.mark.parametrize("trans_b", [False, True])
@pytest.mark.parametrize("panel", [1, 48 * 43, 1 << 20])
@pytest.mark.parametrize("form", ["nf4", "int8", "int3"])
def test_operands_may_be_strided_and_results_added_to(form, trans_a, trans_b, panel, monkeypatch):
    monkeypatch.setattr(panels, "PANEL", panel)
    matrix = stored(form, 101, 43)
    inner, outer = (43, 101) if trans_b else (101, 43)
    a = normal(inner, 2 * 7)[:, ::2] if trans_a else normal(7, 2 * inner)[:, :inner]
    out = normal(7, 300)[:, 50 : 50 + outer]
    wide = matrix.dequantize().T if trans_b else matrix.dequantize()
    wanted = out + (a.T if trans_a else a) @ wide
    found = kernels.matmul(a, Held(matrix), trans_a=trans_a, trans_b=trans_b, out=out, add=True)
    assert found is out
    assert difference(out, wanted) <= 1e-6


def test_the_reference_product_widens_by_panels_too(monkeypatch):
    monkeypatch.setattr(panels, "PANEL", 48 * 43)
    matrix, a = stored("nf4", 101, 43), normal(7, 101)
    found = kernels.matmul.reference(a, Held(matrix))
    assert difference(found, a @ matrix.dequantize()) <= 1e-6


@pytest.mark.parametrize("shape", [(0, 64), (5, 0)])
def test_a_product_with_nothing_is_zero(shape):
    held = Held(quantize(np.zeros(shape, np.float32), "int8"))
    out = np.full((3, shape[1]), 7, np.float32)
    assert np.array_equal(kernels.matmul(normal(3, shape[0]), held, out=out), np.zeros_like(out))
    assert (
        kernels.matmul(normal(3, shape[1]), held, trans_b=True).tolist() == [[0.0] * shape[0]] * 3
    )


def test_operands_of_another_length_are_refused():
    with pytest.raises(ValueError, match="over 5 numbers of a and 64 of b"):
        kernels.matmul(normal(3, 5), Held(stored("nf4", 7, 64)), trans_b=True)


@EACH
def test_a_table_gives_its_rows(form):
    matrix, ids = stored(form), np.array([3, 0, 69, 3])
    assert np.array_equal(kernels.embedding(Held(matrix), ids), matrix.dequantize()[ids])
    columns = np.array([255, 0, 7])
    found = kernels.embedding(Held(matrix).T, columns)
    assert np.array_equal(found, matrix.dequantize().T[columns])


def test_numpy_takes_it_as_the_array_that_it_stands_for():
    matrix = stored("nf4")
    held, wide = Held(matrix), matrix.dequantize()
    assert (held.shape, held.ndim, held.size, len(held)) == (wide.shape, 2, wide.size, 70)
    assert held.dtype == wide.dtype
    assert held.nbytes == matrix.nbytes < wide.nbytes / 7
    assert np.array_equal(np.asarray(held), wide)
    assert np.array_equal(np.asarray(held.T), wide.T)
    assert held.astype(np.float64).dtype == np.float64
    with pytest.raises(ValueError, match="copy"):
        np.array(held, copy=False)


def test_only_matrices_are_held():
    with pytest.raises(ValueError, match=r"\(64,\)"):
        Held(quantize(normal(64), "nf4"))


@pytest.mark.parametrize("form", ["nf4", "int8", "q4_0", "q8_0", "q4_k"])
def test_no_wide_copy_of_the_matrix_exists(form):
    held = Held(stored(form, 4096, 2048))
    x, g = normal(1, 2048), normal(1, 4096)
    kernels.matmul(x, held, trans_b=True)
    tracemalloc.start()
    kernels.matmul(x, held, trans_b=True)
    kernels.matmul(g, held)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < held.size * 4 / 7  # a panel is an eighth of this matrix
