"""Every optimizer finds the minimum of a quadratic and goes down Rosenbrock's valley."""

import numpy as np
import pytest

from entrenar_core.autograd import Parameter
from entrenar_core.optim import (
    SGD,
    Adafactor,
    Adam,
    AdamW,
    Combined,
    Lion,
    Muon,
    RMSprop,
    warmup_stable_decay,
)

pytestmark = pytest.mark.tier3

PLACES = {False: ((4, 2), "float64"), True: ((64, 64), "float32")}
"""Shape and dtype: those in 8 bits need many elements."""

# the optimizer, the rate for the quadratic, and that for Rosenbrock's function
CASES = {
    "SGD": (SGD, 0.05, 1e-3),
    "SGD with momentum": (lambda m: SGD(m, momentum=0.9), 0.02, 3e-4),
    "SGD with Nesterov": (lambda m: SGD(m, momentum=0.9, nesterov=True), 0.02, 3e-4),
    "Adam": (Adam, 0.05, 0.02),
    "AMSGrad": (lambda m: Adam(m, amsgrad=True), 0.05, 0.02),
    "AdamW": (lambda m: AdamW(m, weight_decay=0.0), 0.05, 0.02),
    "RMSprop": (RMSprop, 0.02, 5e-3),
    "RMSprop with momentum": (lambda m: RMSprop(m, momentum=0.9), 0.005, 5e-4),
    "Adafactor": (Adafactor, 0.1, 0.05),
    "Lion": (Lion, 0.01, 2e-3),
    "Muon": (lambda m: Muon(m, weight_decay=0.0), 0.02, 5e-3),
    "Adam in 8 bits": (lambda m: Adam(m, state_bits=8), 0.05, 0.02),
    "AdamW in 8 bits": (lambda m: AdamW(m, state_bits=8, weight_decay=0.0), 0.05, 0.02),
    "Muon and AdamW": (
        lambda m: Combined([Muon(m, weight_decay=0.0), AdamW({"unused": Parameter(np.zeros(1))})]),
        0.02, 5e-3,
    ),
}  # fmt: skip


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Two threads gain nothing on arrays this small, and wait long on a busy machine."""
    import numba

    before = numba.get_num_threads()
    numba.set_num_threads(1)
    yield
    numba.set_num_threads(before)


def minimized(make, gradient, start, peak, steps):
    weight = Parameter(start.copy())
    optimizer = make({"w": weight})
    rate = warmup_stable_decay(peak, warmup=10, stable=steps // 2, decay=steps - steps // 2 - 10)
    for step in range(steps):
        weight.grad = gradient(weight.data)
        optimizer.step(rate(step))
    return weight.data


@pytest.mark.parametrize("name", CASES)
def test_the_minimum_of_a_quadratic_is_found(name):
    make, rate, _ = CASES[name]
    shape, dtype = PLACES["8 bits" in name]
    rng = np.random.default_rng(0)
    curvature = rng.uniform(0.5, 5, shape).astype(dtype)
    centre = rng.uniform(-2, 2, shape).astype(dtype)
    start = np.zeros(shape, dtype)
    found = minimized(make, lambda w: curvature * (w - centre), start, rate, 1500)
    assert np.abs(found - centre).max() < 0.02


def rosenbrock(w):
    """Σ (1 − x)² + 100 (y − x²)² over the pairs (x, y) of rows, and its gradient."""
    x, y = w[0::2], w[1::2]
    gradient = np.empty_like(w)
    gradient[0::2] = -2 * (1 - x) - 400 * x * (y - x**2)
    gradient[1::2] = 200 * (y - x**2)
    return ((1 - x) ** 2 + 100 * (y - x**2) ** 2).sum(), gradient


@pytest.mark.parametrize("name", CASES)
def test_rosenbrocks_valley_is_followed_to_its_end(name):
    make, _, rate = CASES[name]
    shape, dtype = PLACES["8 bits" in name]
    start = np.full(shape, -0.5, dtype)
    assert rosenbrock(start)[0] > 50
    found = minimized(make, lambda w: rosenbrock(w)[1], start, rate, 12_000)
    assert np.abs(found - 1).max() < 0.05
