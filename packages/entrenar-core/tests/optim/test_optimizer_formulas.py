"""Every optimizer against its definition, written out in NumPy for one array at a time."""

import math
from itertools import product

import numpy as np
import pytest

from entrenar_core import optim
from entrenar_core.autograd import Parameter
from entrenar_core.optim.muon import ADJUSTMENTS
from entrenar_core.testing import difference

pytestmark = pytest.mark.tier2

STEPS = 12
LR = 0.05
SHAPES = {"matrix": (3, 5), "tall": (6, 2), "vector": (7,), "stack": (2, 3, 4), "number": ()}
BOOLEANS = (False, True)


def combinations(**values):
    return [dict(zip(values, chosen, strict=True)) for chosen in product(*values.values())]


def moved(optimizer_class, options, shapes=SHAPES, *, dtype="float64", steps=STEPS):
    """Where the optimizer brings random parameters by random gradients, and its parts: the start
    and the gradients of each parameter."""
    rng = np.random.default_rng(3)
    start = {name: np.asarray(rng.standard_normal(s)) for name, s in shapes.items()}
    members = {name: Parameter(np.array(value, dtype)) for name, value in start.items()}
    given = {
        name: [np.asarray(rng.standard_normal(s)) for _ in range(steps)]
        for name, s in shapes.items()
    }
    optimizer = optimizer_class(members, **options)
    for step in range(steps):
        for name, parameter in members.items():
            parameter.grad = given[name][step].astype(dtype)
        optimizer.step(LR)
    return {name: (members[name].data, start[name], given[name]) for name in shapes}


def check(optimizer_class, options, definition, shapes=SHAPES):
    for name, (found, start, gradients) in moved(optimizer_class, options, shapes).items():
        wanted = definition(start.copy(), gradients, **options)
        assert difference(found, wanted) <= 1e-12, name


def sgd(p, gradients, *, momentum, dampening, nesterov, weight_decay, maximize):
    b = None
    for g in gradients:
        g = (-g if maximize else g) + weight_decay * p
        b = g if b is None else momentum * b + (1 - dampening) * g
        used = g if momentum == 0 else (g + momentum * b if nesterov else b)
        p = p - LR * used
    return p


@pytest.mark.parametrize(
    "options",
    [
        options
        for options in combinations(
            momentum=(0.0, 0.9), dampening=(0.0, 0.4), nesterov=BOOLEANS,
            weight_decay=(0.0, 0.2), maximize=BOOLEANS,
        )
        if not options["nesterov"] or (options["momentum"] and not options["dampening"])
    ],
    ids=str,
)  # fmt: skip
def test_sgd_is_its_definition(options):
    check(optim.SGD, options, sgd)


def adam(p, gradients, *, beta1, beta2, eps, weight_decay, amsgrad, maximize, decoupled=False):
    m = v = peak = np.zeros_like(p)
    for t, g in enumerate(gradients, 1):
        g = -g if maximize else g
        if decoupled:
            p = p - LR * weight_decay * p
        else:
            g = g + weight_decay * p
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        peak = np.maximum(peak, v)
        m_hat = m / (1 - beta1**t)
        v_hat = (peak if amsgrad else v) / (1 - beta2**t)
        p = p - LR * m_hat / (np.sqrt(v_hat) + eps)
    return p


ADAM = combinations(
    beta1=(0.9, 0.0), beta2=(0.999, 0.7), eps=(1e-8, 0.1), weight_decay=(0.0, 0.2),
    amsgrad=BOOLEANS, maximize=BOOLEANS,
)  # fmt: skip


@pytest.mark.parametrize("options", ADAM, ids=str)
def test_adam_is_its_definition(options):
    check(optim.Adam, options, adam)


@pytest.mark.parametrize("options", ADAM, ids=str)
def test_adamw_is_its_definition_and_leaves_out_the_decay_of_vectors(options):
    for found, start, gradients in moved(optim.AdamW, options).values():
        decay = options["weight_decay"] if start.ndim >= 2 else 0.0
        wanted = adam(start, gradients, **options | {"weight_decay": decay}, decoupled=True)
        assert difference(found, wanted) <= 1e-12


def rmsprop(p, gradients, *, alpha, eps, momentum, centered, weight_decay, maximize):
    s = a = b = np.zeros_like(p)
    for g in gradients:
        g = (-g if maximize else g) + weight_decay * p
        s = alpha * s + (1 - alpha) * g**2
        a = alpha * a + (1 - alpha) * g
        u = g / (np.sqrt(s - a**2 if centered else s) + eps)
        b = momentum * b + u
        p = p - LR * b
    return p


@pytest.mark.parametrize(
    "options",
    combinations(
        alpha=(0.99, 0.6), eps=(1e-8, 0.1), momentum=(0.0, 0.8), centered=BOOLEANS,
        weight_decay=(0.0, 0.2), maximize=BOOLEANS,
    ),
    ids=str,
)  # fmt: skip
def test_rmsprop_is_its_definition(options):
    check(optim.RMSprop, options, rmsprop)


def adafactor(p, gradients, *, beta2_decay, eps1, eps2, d, weight_decay, maximize):
    eps1 = 2.0**-52 if eps1 is None else eps1
    row, column, v = 0.0, 0.0, 0.0
    for t, g in enumerate(gradients, 1):
        g = -g if maximize else g
        beta = 1 - t**beta2_decay
        alpha = max(eps2, math.sqrt((p**2).mean())) * min(LR, 1 / math.sqrt(t))
        if p.ndim < 2:
            v = beta * v + (1 - beta) * g**2
        else:
            row = beta * row + (1 - beta) * (g**2).mean(axis=-1)
            column = beta * column + (1 - beta) * (g**2).mean(axis=-2)
            mean = np.maximum(row.mean(axis=-1), eps1)
            v = np.einsum("...r,...c,...->...rc", row, column, 1 / mean)
        u = g / np.maximum(np.sqrt(v), eps1)
        u = u / max(1.0, math.sqrt((u**2).mean()) / d)
        p = p - LR * weight_decay * p - alpha * u
    return p


@pytest.mark.parametrize(
    "options",
    combinations(
        beta2_decay=(-0.8, -0.2), eps1=(None, 0.3), eps2=(1e-3, 2.0), d=(1.0, 1.5),
        weight_decay=(0.0, 0.2), maximize=BOOLEANS,
    ),
    ids=str,
)  # fmt: skip
def test_adafactor_is_its_definition(options):
    check(optim.Adafactor, options, adafactor)


def test_adafactor_takes_the_precision_of_its_parameters_for_eps1():
    weight = Parameter(np.ones(3, np.float32))
    optimizer = optim.Adafactor({"w": weight}, d=1e9)
    weight.grad = np.array([1e-12, 0.0, 1e-3], np.float32)
    optimizer.step(1.0)
    wanted = 1 - np.array([1e-12 / np.finfo(np.float32).eps, 0.0, 1.0])
    assert difference(weight.data, wanted) <= 1e-6


def test_adafactor_steps_by_the_root_of_time_where_the_rate_is_larger():
    # U is 1 for a constant gradient, and each step is RMS(p)/√t
    weight = Parameter(np.array([2.0]))
    optimizer = optim.Adafactor({"w": weight})
    optimizer.restore({"adafactor.v.w": np.array([9.0])}, 3)
    weight.grad = np.array([3.0])
    optimizer.step(10.0)
    assert weight.data[0] == pytest.approx(2.0 - 2.0 / math.sqrt(4), rel=1e-12)


def lion(p, gradients, *, beta1, beta2, weight_decay):
    m = np.zeros_like(p)
    for g in gradients:
        c = beta1 * m + (1 - beta1) * g
        p = p - LR * (np.sign(c) + weight_decay * p)
        m = beta2 * m + (1 - beta2) * g
    return p


@pytest.mark.parametrize(
    "options",
    combinations(beta1=(0.9, 0.0, 0.5), beta2=(0.99, 0.3), weight_decay=(0.0, 0.2)),
    ids=str,
)
def test_lion_is_its_definition(options):
    check(optim.Lion, options, lion)


def test_two_hundred_steps_of_lion_are_its_definition():
    options = {"beta1": 0.9, "beta2": 0.99, "weight_decay": 0.1}
    for found, start, gradients in moved(optim.Lion, options, steps=200).values():
        assert difference(found, lion(start, gradients, **options)) <= 1e-10


def test_lion_does_not_move_where_no_gradient_has_been():
    weight = Parameter(np.array([1.0, 1.0]))
    optimizer = optim.Lion({"w": weight})
    weight.grad = np.array([0.0, -4.0])
    optimizer.step(0.5)
    assert weight.data.tolist() == [1.0, 1.5]


def muon(
    p, gradients, *, momentum, nesterov, weight_decay, adjust_lr="original",
    newton_schulz_steps=5, eps=1e-7, coefficients=(3.4445, -4.775, 2.0315),
):  # fmt: skip
    a, b, c = coefficients
    rows, columns = p.shape
    ratio = math.sqrt(max(1, rows / columns))
    if adjust_lr == "match_rms_adamw":
        ratio = 0.2 * math.sqrt(max(rows, columns))
    buffer = np.zeros_like(p)
    for g in gradients:
        buffer = momentum * buffer + (1 - momentum) * g
        u = (1 - momentum) * g + momentum * buffer if nesterov else buffer
        x = u / max(np.linalg.norm(u), eps)
        for _ in range(newton_schulz_steps):
            gram = x @ x.T
            x = a * x + (b * gram + c * gram @ gram) @ x
        p = p - LR * weight_decay * p - LR * ratio * x
    return p


MATRICES = {"wide": (3, 8), "tall": (8, 3), "square": (4, 4), "one": (1, 1)}


@pytest.mark.parametrize(
    "options",
    combinations(
        momentum=(0.95, 0.3), nesterov=BOOLEANS, weight_decay=(0.0, 0.2),
        adjust_lr=tuple(ADJUSTMENTS), newton_schulz_steps=(5, 1), eps=(1e-7, 9.0),
    ),
    ids=str,
)  # fmt: skip
def test_muon_is_its_definition(options):
    check(optim.Muon, options, muon, MATRICES)


def test_two_hundred_steps_of_muon_are_its_definition():
    options = {"momentum": 0.95, "nesterov": True, "weight_decay": 0.1}
    for found, start, gradients in moved(optim.Muon, options, MATRICES, steps=200).values():
        assert difference(found, muon(start, gradients, **options)) <= 1e-10


def test_muon_steps_with_other_coefficients():
    options = {
        "coefficients": (2.0, -1.5, 0.5),
        "momentum": 0.9,
        "nesterov": True,
        "weight_decay": 0.0,
    }
    check(optim.Muon, options, muon, MATRICES)


def test_a_step_of_muon_is_nearly_orthogonal():
    weight = Parameter(np.zeros((5, 9)))
    optimizer = optim.Muon({"w": weight})
    weight.grad = np.random.default_rng(0).standard_normal((5, 9))
    optimizer.step(1.0)
    values = np.linalg.svd(weight.data, compute_uv=False)
    assert values.min() > 0.5 and values.max() < 1.3


DEFAULTS = {
    optim.SGD: (
        sgd,
        {
            "momentum": 0.0, "dampening": 0.0, "nesterov": False, "weight_decay": 0.0,
            "maximize": False,
        },
    ),
    optim.Adam: (
        adam,
        {
            "beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weight_decay": 0.0, "amsgrad": False,
            "maximize": False,
        },
    ),
    optim.RMSprop: (
        rmsprop,
        {
            "alpha": 0.99, "eps": 1e-8, "momentum": 0.0, "centered": False, "weight_decay": 0.0,
            "maximize": False,
        },
    ),
    optim.Adafactor: (
        adafactor,
        {
            "beta2_decay": -0.8, "eps1": None, "eps2": 1e-3, "d": 1.0, "weight_decay": 0.0,
            "maximize": False,
        },
    ),
    optim.Lion: (lion, {"beta1": 0.9, "beta2": 0.99, "weight_decay": 0.0}),
    optim.Muon: (muon, {"momentum": 0.95, "nesterov": True, "weight_decay": 0.1}),
}  # fmt: skip


@pytest.mark.parametrize("optimizer_class", DEFAULTS)
def test_the_defaults_are_those_of_the_papers_and_of_torch(optimizer_class):
    definition, options = DEFAULTS[optimizer_class]
    shapes = MATRICES if optimizer_class is optim.Muon else SHAPES
    for found, start, gradients in moved(optimizer_class, {}, shapes).values():
        assert difference(found, definition(start, gradients, **options)) <= 1e-12


def test_the_defaults_of_adamw_are_torchs():
    options = DEFAULTS[optim.Adam][1]
    for found, start, gradients in moved(optim.AdamW, {}).values():
        decay = 0.01 if start.ndim >= 2 else 0.0
        wanted = adam(start, gradients, **options | {"weight_decay": decay}, decoupled=True)
        assert difference(found, wanted) <= 1e-12


@pytest.mark.parametrize(
    "optimizer_class",
    [*DEFAULTS, optim.AdamW],
)
def test_float32_gives_the_same_up_to_rounding(optimizer_class):
    shapes = MATRICES if optimizer_class is optim.Muon else SHAPES
    exact = moved(optimizer_class, {}, shapes)
    for name, (found, *_) in moved(optimizer_class, {}, shapes, dtype="float32").items():
        assert found.dtype == np.float32
        assert difference(found, exact[name][0]) <= 1e-5
