"""Products of integers of 8 bits beside NumPy's of int64, and beside products of real numbers."""

import os
import subprocess
import sys

import numba
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from entrenar_core import kernels
from entrenar_core.kernels import Held, Int8Panels
from entrenar_core.kernels.int8_panels import packed
from entrenar_core.kernels.matmul_int8 import LONGEST, matmul_int8, quantized_rows
from entrenar_core.quant import Integer, Panels, quantize

pytestmark = pytest.mark.tier2

SIZES = st.integers(1, 129)
SOME = settings(deadline=None, max_examples=40)
EACH = pytest.mark.parametrize("product", [matmul_int8, matmul_int8.reference])


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def integers(rows, columns, seed=0):
    return np.random.default_rng(seed).integers(-128, 128, (rows, columns))


def panels(q, scales):
    return Held(packed((q + 128).astype(np.uint8), scales))


def whole_numbers(rows, columns, seed=0):
    """Rows of integers with 127 in each, which are rounded to themselves."""
    x = np.random.default_rng(seed).integers(-127, 128, (rows, columns))
    x[:, 0] = 127
    return x


@pytest.fixture(scope="module", autouse=True)
def compiled():
    """Compile what is used first: it takes longer than one of many examples may."""
    for form in ("int8", "q8_0"):
        quantize(normal(3, 64), form).dequantize()
    matmul_int8(normal(3, 64), Held(quantize(normal(3, 64), Panels())), trans_b=True)


@EACH
@SOME
@given(m=SIZES, n=SIZES, k=SIZES)
@example(m=1, n=48, k=4)
@example(m=8, n=49, k=5)
@example(m=9, n=96, k=128)
@example(m=129, n=129, k=129)
def test_sums_of_integers_are_exact(product, m, n, k):
    x, q = whole_numbers(m, k), integers(n, k)
    found = product(x.astype(np.float32), panels(q, np.ones((n, 1), np.float32)), trans_b=True)
    assert np.array_equal(found, (x @ q.T).astype(np.float32))


@EACH
@pytest.mark.parametrize("sign", [1, -1])
def test_the_largest_sums_are_exact_too(product, sign):
    x, q = np.full((2, LONGEST), 127 * sign), np.full((3, LONGEST), -128)
    found = product(x.astype(np.float32), panels(q, np.ones((3, 1), np.float32)), trans_b=True)
    assert np.array_equal(found, (x @ q.T).astype(np.float32))
    with pytest.raises(ValueError, match="fit in 32 bits"):
        more = np.ones((1, LONGEST + 4), np.float32)
        product(more, panels(np.ones((1, LONGEST + 4), int), more[:, :1]), trans_b=True)


@EACH
@SOME
@given(m=SIZES, n=SIZES, k=SIZES, add=st.booleans())
def test_rows_have_a_scale_each_and_outputs_too(product, m, n, k, add):
    x, stored = normal(m, k), quantize(normal(n, k, seed=1), Panels())
    q, s = quantized_rows(x)
    exact = q.astype(np.int64) @ stored.integers(0, n).astype(np.int64).T
    out = normal(m, n)
    before = out.copy()
    # one rounding for each operation, in the order that the kernel states
    wanted = exact.astype(np.float32) * stored.scales_of(0, n).T * s[:, None]
    wanted = before + wanted if add else wanted
    found = product(x, Held(stored), trans_b=True, out=out, add=add)
    assert found is out
    assert np.array_equal(found, wanted)


@EACH
@SOME
@given(m=SIZES, n=SIZES, blocks=st.integers(1, 5))
def test_blocks_of_q8_0_are_summed_in_float32(product, m, n, blocks):
    x, stored = normal(m, 32 * blocks), quantize(normal(n, 32 * blocks, seed=1), "q8_0")
    q, s = (each.astype(np.float64) for each in quantized_rows(x))
    wanted = (q * s[:, None]) @ stored.dequantize().astype(np.float64).T
    found = product(x, Held(Panels().taken(stored)), trans_b=True)
    assert np.abs(found - wanted).max() <= 3e-7 * np.abs(wanted).max()


@EACH
@pytest.mark.parametrize("k", [768, 3072, 12288])
def test_a_sum_over_many_blocks_is_as_near_as_one_rounding_for_each_of_them_allows(product, k):
    x, stored = normal(5, k), quantize(normal(99, k, seed=1), "q8_0")
    q, s = (each.astype(np.float64) for each in quantized_rows(x))
    wide = stored.dequantize().astype(np.float64)
    terms = np.stack(
        [q[:, at : at + 32] @ wide[:, at : at + 32].T for at in range(0, k, 32)]
    ) * s[:, None]  # fmt: skip
    error = np.abs(product(x, Held(Panels().taken(stored)), trans_b=True) - terms.sum(axis=0))
    # two roundings of each term, one of what is added up so far, one with the scale
    assert (error <= 2.0**-24 * (len(terms) + 3) * np.abs(terms).sum(axis=0)).all()
    if k == 768:
        assert error.max() <= 3e-7 * np.abs(terms.sum(axis=0)).max()


@SOME
@given(rows=SIZES, columns=SIZES, size=st.sampled_from([1e-44, 1e-38, 1e-30, 1.0, 1e30, 3e38]))
def test_numbers_are_rounded_to_the_nearest_integer_of_their_row(rows, columns, size):
    x = np.float32(size) * np.clip(normal(rows, columns), -1, 1)
    q, scale = quantized_rows(x)
    assert np.abs(q).max() <= 127
    assert np.array_equal(q, np.rint(q))
    if size >= 1e-30:
        error = np.abs(q * scale[:, None].astype(np.float64) - x)
        assert (error <= 0.5001 * scale[:, None]).all()


def test_the_kernel_rounds_as_the_reference_at_halves():
    # with a scale of 1, halves are between two integers
    x = np.arange(-126.5, 127, 1, np.float32)[None]
    x = np.concatenate([x, np.full((1, 1), 127, np.float32)], axis=1)
    identity = np.eye(x.shape[1], dtype=int)
    found = matmul_int8(x, panels(identity, np.ones((len(identity), 1), np.float32)), trans_b=True)
    assert np.array_equal(found, np.rint(x))


@EACH
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 15, 16, 36])
@pytest.mark.parametrize("block", [None, 32])
def test_a_row_that_is_not_finite_gives_nan_and_no_other_does(product, bad, place, block):
    x = normal(9, 64)
    x[3, place] = bad
    scales = np.ones((50, 1), np.float32) if block is None else np.ones((50, 2), np.float16)
    found = product(x, panels(integers(50, 64), scales), trans_b=True)
    assert np.isnan(found).all(axis=1).tolist() == [i == 3 for i in range(9)]
    assert np.isfinite(np.delete(found, 3, axis=0)).all()


@EACH
def test_a_row_of_zeros_gives_zeros(product):
    found = product(
        np.zeros((2, 9), np.float32), panels(integers(5, 9), normal(5, 1)), trans_b=True
    )
    assert not found.any()


@EACH
@pytest.mark.parametrize("shape", [(0, 5, 7), (3, 0, 7), (3, 5, 0)])
def test_a_product_with_nothing_is_zero(product, shape):
    m, n, k = shape
    held = panels(integers(n, k), np.ones((n, 1), np.float32))
    assert np.array_equal(product(normal(m, k), held, trans_b=True), np.zeros((m, n), np.float32))


@EACH
def test_operands_of_another_length_are_refused(product):
    with pytest.raises(ValueError, match="over 5 numbers of a and 64 of b"):
        product(normal(3, 5), Held(quantize(normal(7, 64), Panels())), trans_b=True)


@EACH
@pytest.mark.parametrize("trans_a", [False, True])
def test_other_products_with_it_are_those_of_float32(product, trans_a):
    held = Held(quantize(normal(40, 40), Panels()))
    a, wide = normal(40, 40, seed=2), np.asarray(held)
    found = product(a, held, trans_a=trans_a)
    assert np.allclose(found, (a.T if trans_a else a) @ wide, atol=1e-4)
    found = product(a, held, trans_a=True, trans_b=True)
    assert np.allclose(found, a.T @ wide.T, atol=1e-4)
    assert np.array_equal(product(a, held.T), product(a, held, trans_b=True))


@SOME
@given(rows=SIZES, columns=SIZES, low=st.integers(0, 128), high=st.integers(1, 129))
def test_panels_give_their_rows_back(rows, columns, low, high):
    array = normal(rows, columns)
    stored, plain = quantize(array, Panels()), quantize(array, Integer(8))
    low, high = min(low, rows - 1), min(max(high, low + 1), rows)
    out = np.empty((high - low, columns), np.float32)
    assert stored.rows(low, high, out) is out
    assert np.array_equal(out, plain.dequantize()[low:high])
    assert np.array_equal(stored.dequantize(), plain.dequantize())


def test_panels_of_q8_0_have_its_numbers_and_8_and_a_half_bits_each():
    stored = quantize(normal(96, 256), "q8_0")
    found = Panels().taken(stored)
    assert np.array_equal(found.dequantize(), stored.dequantize())
    assert found.nbytes == stored.nbytes == 96 * 256 * 8.5 / 8
    assert quantize(normal(96, 256), Panels()).nbytes == 96 * (256 + 4)
    assert found.codes.ctypes.data % 64 == 0
    assert Panels().taken(quantize(normal(96, 256), "q4_0")) is None


@pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS < 2, reason="needs two threads")
@pytest.mark.parametrize(("m", "n", "k"), [(1, 2048, 768), (16, 999, 768), (300, 500, 333)])
@pytest.mark.parametrize("form", ["int8", "q8_0"])
def test_one_and_two_threads_give_the_same_bits(m, n, k, form):
    k = k // 32 * 32
    array = normal(n, k, seed=1)
    taken = quantize(array, Panels()) if form == "int8" else Panels().taken(quantize(array, form))
    x, before, found = normal(m, k), numba.get_num_threads(), []
    for threads in (1, 2):
        numba.set_num_threads(threads)
        found.append(matmul_int8(x, Held(taken), trans_b=True))
    numba.set_num_threads(before)
    assert found[0].tobytes() == found[1].tobytes()


def test_a_row_of_a_result_does_not_depend_on_the_rows_beside_it():
    x, held = normal(40, 96), Held(Panels().taken(quantize(normal(100, 96), "q8_0")))
    whole = matmul_int8(x, held, trans_b=True)
    for i in range(40):
        assert np.array_equal(matmul_int8(x[i : i + 1], held, trans_b=True)[0], whole[i])


PROGRAM = """
import sys, numpy as np
from entrenar_core import kernels
from entrenar_core.kernels import Held
from entrenar_core.quant import Panels, quantize
x, w = (np.random.default_rng(i).standard_normal((70, 96), np.float32) for i in (0, 1))
for taken in (quantize(w, Panels()), Panels().taken(quantize(w, "q8_0"))):
    found = kernels.matmul_int8(x, Held(taken), trans_b=True)
    sys.stdout.buffer.write(found.tobytes())
"""


def test_a_processor_without_the_instructions_computes_the_same_integers(tmp_path):
    found = []
    for target in ({"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""}, {}):
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM], capture_output=True, check=False,
            env=os.environ | target | {"NUMBA_CACHE_DIR": str(tmp_path / str(len(target)))},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr.decode()
        found.append(np.frombuffer(done.stdout, np.float32).reshape(2, 70, 70))
    plain, fast = found
    assert plain[0].tobytes() == fast[0].tobytes()  # an integer, and two roundings
    assert np.abs(plain[1] - fast[1]).max() <= 3e-7 * np.abs(fast[1]).max()


def test_it_is_held_as_any_matrix_in_few_bits():
    stored = quantize(normal(70, 40), Panels())
    assert isinstance(stored, Int8Panels)
    held = Held(stored)
    assert np.array_equal(kernels.embedding(held, np.array([69, 3])), np.asarray(held)[[69, 3]])
