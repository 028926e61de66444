"""Products of bfloat16 numbers, beside float64 products of the rounded operands."""

import os
import subprocess
import sys

import ml_dtypes
import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from entrenar_core import kernels
from entrenar_core.kernels import Held, has_bf16, matmul_bf16, packed_bf16
from entrenar_core.kernels.matmul_bf16 import as_bfloat16

BOUND = 3e-7
"""Of what is summed: an addition rounds by up to 6e-8, and the roundings of many partly cancel."""

SIDES = st.integers(1, 129)
LONG = st.one_of(SIDES, st.sampled_from([1023, 1024, 1025, 2049]))


def drawn(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def laid_out(seed, rows, columns, extra):
    """A matrix that is a part of the columns of a wider one."""
    return drawn(seed, rows, columns + extra)[:, extra // 2 : extra // 2 + columns]


def operands(a, b, trans_a, trans_b):
    a, b = (as_bfloat16(x).astype(np.float64) for x in (a, b))
    return a.T if trans_a else a, b.T if trans_b else b


def exact(a, b, trans_a=False, trans_b=False):
    a, b = operands(a, b, trans_a, trans_b)
    return a @ b


def difference(found, wanted, a, b, trans_a=False, trans_b=False, start=0.0):
    """Its norm, beside that of what the sums would be if their terms were at right angles: of few
    numbers, and one term after the other may cancel, the sums themselves say little."""
    a, b = operands(a, b, trans_a, trans_b)
    return np.linalg.norm(found - wanted) / np.sqrt(((a * a) @ (b * b) + start * start).sum())


@settings(deadline=None)
@given(x=st.binary(min_size=4, max_size=400))
def test_rounding_is_that_of_another_library_but_for_numbers_below_the_normal_ones(x):
    x = np.frombuffer(x[: len(x) // 4 * 4], np.float32)
    found = as_bfloat16(x)
    usual = (np.abs(x) >= 2.0**-126) & ~np.isnan(x)
    with np.errstate(over="ignore", invalid="ignore"):
        wanted = x.astype(ml_dtypes.bfloat16).astype(np.float32)
    assert np.array_equal(found[usual], wanted[usual])
    assert np.all(found[np.abs(x) < 2.0**-126] == 0)
    assert np.all(np.isnan(found[np.isnan(x)]))


@settings(deadline=None)
@given(m=SIDES, n=SIDES, k=SIDES, trans_a=st.booleans(), trans_b=st.booleans(),
       extra=st.integers(0, 5), add=st.booleans(), seed=st.integers(0, 99))  # fmt: skip
def test_a_product_is_that_of_the_rounded_operands(m, n, k, trans_a, trans_b, extra, add, seed):
    a = laid_out(seed, *((k, m) if trans_a else (m, k)), extra)
    b = laid_out(seed + 1, *((n, k) if trans_b else (k, n)), extra)
    wide = drawn(seed + 2, m, n + extra)
    before, out = wide.copy(), wide[:, extra // 2 : extra // 2 + n]
    start = out.astype(np.float64) if add else np.zeros(out.shape)
    wanted = exact(a, b, trans_a, trans_b) + start
    found = matmul_bf16(a, b, trans_a=trans_a, trans_b=trans_b, out=out, add=add)
    assert found is out
    assert difference(out, wanted, a, b, trans_a, trans_b, start) <= BOUND
    beside = np.ones(wide.shape[1], bool)
    beside[extra // 2 : extra // 2 + n] = False
    assert np.array_equal(wide[:, beside], before[:, beside])


@pytest.mark.parametrize("k", [256, 1023, 1024, 1025, 2049, 3072, 32_000])
@pytest.mark.parametrize(("trans_a", "trans_b"), [(False, True), (False, False), (True, False)])
def test_sums_of_many_terms(k, trans_a, trans_b):
    a = drawn(0, *((k, 100) if trans_a else (100, k)))
    b = drawn(1, *((150, k) if trans_b else (k, 150)))
    wanted = exact(a, b, trans_a, trans_b)
    found = matmul_bf16(a, b, trans_a=trans_a, trans_b=trans_b)
    assert np.linalg.norm(found - wanted) <= BOUND * np.linalg.norm(wanted)


@settings(deadline=None)
@given(m=SIDES, n=SIDES, k=LONG, seed=st.integers(0, 99))
def test_what_is_packed_gives_the_bits_of_what_is_not(m, n, k, seed):
    a, weight = drawn(seed, m, k), drawn(seed + 1, n, k)
    packed = packed_bf16(weight)
    found = matmul_bf16(a, packed, trans_b=True)
    if has_bf16():
        assert np.array_equal(found, matmul_bf16(a, weight, trans_b=True))
        assert np.array_equal(found, matmul_bf16(a, packed.T))
    assert np.array_equal(np.asarray(packed, np.float32), as_bfloat16(weight))
    g = drawn(seed + 2, m, n)
    assert difference(matmul_bf16(g, packed), exact(g, weight), g, weight) <= BOUND
    ids = np.random.default_rng(seed).integers(0, n, 7)
    assert np.array_equal(kernels.embedding(packed, ids), as_bfloat16(weight)[ids])


@pytest.mark.skipif(not has_bf16(), reason="needs a processor that multiplies bfloat16 numbers")
@settings(deadline=None)
@given(n=SIDES, k=LONG, low=st.integers(0, 128), seed=st.integers(0, 9))
def test_rows_of_what_is_packed_are_the_rounded_rows(n, k, low, seed):
    weight, low = drawn(seed, n, k), min(low, n)
    out = np.full((n - low, k), np.nan, np.float32)
    assert packed_bf16(weight).kept.rows(low, n, out) is out
    assert np.array_equal(out, as_bfloat16(weight)[low:])


def test_what_is_packed_takes_half_the_memory():
    weight = drawn(0, 768, 768)
    assert packed_bf16(weight).nbytes <= weight.nbytes / 2 + 4096


@pytest.mark.parametrize(("m", "n", "k"), [(0, 3, 4), (3, 0, 4), (3, 4, 0)])
@pytest.mark.parametrize("add", [True, False])
def test_a_size_of_zero(m, n, k, add):
    out = np.ones((m, n), np.float32)
    found = matmul_bf16(drawn(0, m, k), drawn(1, k, n), out=out, add=add)
    assert np.array_equal(found, np.full((m, n), 1.0 if add else 0.0))


@settings(max_examples=20, deadline=None)
@given(m=SIDES, n=SIDES, k=SIDES, seed=st.integers(0, 99), data=st.data())
def test_infinity_and_nan_go_where_they_go_in_exact_products(m, n, k, seed, data):
    a, b = drawn(seed, m, k), drawn(seed + 1, k, n)
    for x in (a, b):
        row, column = (
            data.draw(st.integers(0, len(x) - 1)),
            data.draw(st.integers(0, x.shape[1] - 1)),
        )
        x[row, column] = data.draw(st.sampled_from([np.inf, -np.inf, np.nan, 3.4e38, 0.0]))
    with np.errstate(invalid="ignore", over="ignore"):
        wanted = exact(a, b)
        found = matmul_bf16(a, b)
    assert np.array_equal(np.isnan(found), np.isnan(wanted))
    infinite = np.isinf(wanted)
    assert np.array_equal(found[infinite], wanted[infinite])


@pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS < 2, reason="needs two threads")
@settings(deadline=None)
@given(m=SIDES, n=SIDES, k=LONG, trans_a=st.booleans(), trans_b=st.booleans())
def test_one_and_two_threads_give_the_same_bits(m, n, k, trans_a, trans_b):
    a = drawn(0, *((3 * k, m) if trans_a else (m, 3 * k)))
    b = drawn(1, *((n, 3 * k) if trans_b else (3 * k, n)))
    before, found = numba.get_num_threads(), []
    for threads in (1, 2):
        numba.set_num_threads(threads)
        found.append(matmul_bf16(a, b, trans_a=trans_a, trans_b=trans_b))
    numba.set_num_threads(before)
    assert np.array_equal(*found)


@pytest.mark.skipif(not has_bf16(), reason="needs a processor that multiplies bfloat16 numbers")
def test_a_row_does_not_depend_on_the_rows_and_columns_beside_it():
    a, b = drawn(0, 300, 1000), drawn(1, 500, 1000)
    whole = matmul_bf16(a, b, trans_b=True)
    part = matmul_bf16(a[7:44], b[50:350], trans_b=True)
    assert np.array_equal(part, whole[7:44, 50:350])


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="over 3 numbers of a and 4 of b"):
        matmul_bf16(drawn(0, 2, 3), drawn(1, 4, 5))


@pytest.mark.parametrize("transposed", [False, True])
def test_weights_in_few_bits_are_widened_a_part_at_a_time(transposed):
    from entrenar_core.quant import quantize

    stored = quantize(drawn(1, 64, 96), "nf4")
    held, x = Held(stored, transposed=transposed), drawn(0, 5, 64 if transposed else 96)
    found = matmul_bf16(x, held, trans_b=True) if not transposed else matmul_bf16(x, held.T)
    wide = np.asarray(Held(stored))
    wanted = exact(x, wide, trans_b=not transposed)
    assert difference(found, wanted, x, wide, trans_b=not transposed) <= BOUND


CHILD = """
import numpy as np
from entrenar_core.kernels import has_bf16, matmul_bf16, packed_bf16
from entrenar_core.kernels.matmul_bf16 import as_bfloat16
rng = np.random.default_rng(0)
a, b = rng.standard_normal((40, 70), np.float32), rng.standard_normal((50, 70), np.float32)
wanted = as_bfloat16(a).astype(float) @ as_bfloat16(b).astype(float).T
for weight in (b, packed_bf16(b)):
    found = matmul_bf16(a, weight, trans_b=True)
    assert np.linalg.norm(found - wanted) <= 3e-7 * np.linalg.norm(wanted)
print(has_bf16())
"""


@pytest.mark.tier2
@pytest.mark.parametrize(
    "target",
    [{"NUMBA_CPU_NAME": "generic"}, {"NUMBA_CPU_FEATURES": "+sse2,+avx,+avx2,+fma"}],
)
def test_numba_may_be_told_of_a_processor_without_the_instructions(target, tmp_path):
    # LLVM would end the process
    child = subprocess.run(
        [sys.executable, "-c", CHILD],
        env={**os.environ, **target, "NUMBA_CACHE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert child.returncode == 0, child.stderr
    assert child.stdout == "False\n"
