"""Results that are too large for the caches are what the same kernel makes of a few rows."""

import numpy as np
import pytest

from entrenar_core import kernels

ROWS, WIDTH = 8208, 528
"""17 MB; the last piece of a flat array is shorter than the others."""
FEW = 24

OF_ROWS = {
    "silu": ("x",), "silu_grad": ("g", "x"), "swiglu": ("x", "g"), "swiglu_grad": ("g", "x", "y"),
    "softmax": ("x",), "softmax_grad": ("g", "x"), "log_softmax": ("x",),
    "log_softmax_grad": ("g", "x"),
}  # fmt: skip
NORMS = {
    "rms_norm": ("x", "weight"), "rms_norm_grad": ("g", "x", "weight", "scale"),
    "layer_norm": ("x", "weight", "bias"),
    "layer_norm_grad": ("g", "x", "weight", "shift", "scale"),
}  # fmt: skip


@pytest.fixture(scope="module")
def arrays():
    """Every second number of arrays in memory."""
    draw = np.random.default_rng(7)
    wide = {n: draw.standard_normal((ROWS, 2 * WIDTH), np.float32)[:, ::2] for n in ("x", "g", "y")}
    flat = {n: draw.standard_normal(2 * WIDTH, np.float32)[::2] for n in ("weight", "bias")}
    of_rows = {n: draw.random(ROWS, np.float32) + 0.5 for n in ("shift", "scale")}
    return wide | flat | of_rows


def results(name, arrays, rows, **options):
    given = (a[rows] if len(a) == ROWS else a for a in arrays)
    found = getattr(kernels, name)(*given, **options)
    return found if isinstance(found, tuple) else (found,)


def compared(name, names, arrays, **options):
    chosen = [arrays[n] for n in names]
    whole = results(name, chosen, slice(None), **options)
    for rows in (slice(0, FEW), slice(ROWS - FEW, ROWS)):
        few = results(name, chosen, rows, **options)
        for all_of_them, some in zip(whole, few, strict=True):
            if len(all_of_them) == ROWS:  # not what is summed over the rows
                yield all_of_them[rows], some


@pytest.mark.tier2
@pytest.mark.parametrize("name", OF_ROWS)
def test_large_results_of_rows(name, arrays):
    for found, expected in compared(name, OF_ROWS[name], arrays):
        np.testing.assert_allclose(found, expected, rtol=2e-6, atol=2e-6)


@pytest.mark.tier2
@pytest.mark.parametrize("approximate", [False, True])
@pytest.mark.parametrize(("name", "names"), [("gelu", ("x",)), ("gelu_grad", ("g", "x"))])
def test_large_results_of_gelu(name, names, approximate, arrays):
    for found, expected in compared(name, names, arrays, approximate=approximate):
        np.testing.assert_allclose(found, expected, rtol=2e-6, atol=2e-6)


@pytest.mark.tier2
@pytest.mark.parametrize("name", NORMS)
def test_large_results_of_norms(name, arrays):
    options = {} if name.endswith("grad") else {"eps": 1e-5}
    for found, expected in compared(name, NORMS[name], arrays, **options):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.tier2
def test_the_gradients_of_the_weights_of_many_rows(arrays):
    g, x, weight, scale, shift = (arrays[n] for n in ("g", "x", "weight", "scale", "shift"))
    centred = (x - shift[:, None]).astype(np.float64) * scale[:, None]
    expected = (g * centred).sum(axis=0), g.sum(axis=0, dtype=np.float64)
    found = kernels.layer_norm_grad(g, x, weight, shift, scale)[1:]
    for mine, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-3)
    mine = kernels.rms_norm_grad(g, x, weight, scale)[1]
    theirs = (g * (x.astype(np.float64) * scale[:, None])).sum(axis=0)
    np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-3)


@pytest.mark.tier2
@pytest.mark.parametrize("rows", [FEW, ROWS])
def test_log_softmax_beside_a_large_peak(rows):
    """Peak and logarithm may not be added up first: beside 10⁸ the logarithm is lost."""
    found = kernels.log_softmax(np.full((rows, WIDTH), 1e8, np.float32))
    np.testing.assert_allclose(found, -np.log(WIDTH), rtol=1e-6)
