"""Every optimizer that PyTorch has too: 200 steps for every combination of its options."""

from itertools import product

import numpy as np
import pytest

from entrenar_core import optim
from entrenar_core.autograd import Parameter
from entrenar_core.testing import difference

pytestmark = pytest.mark.parity

STEPS = 200
BOUND = {"float32": 1e-5, "float64": 1e-10}
SHAPES = {"a": (7, 5), "b": (33,), "c": (3, 4, 2), "d": ()}
MATRICES = {"wide": (5, 9), "tall": (9, 5), "square": (6, 6), "row": (1, 7)}

DECAY = {"weight_decay": (0.0, 0.1), "maximize": (False, True)}
ADAM = {
    "betas": ((0.9, 0.999), (0.0, 0.5), (0.8, 0.95)), "eps": (1e-8, 1e-3), **DECAY,
    "amsgrad": (False, True),
}  # fmt: skip
OPTIONS = {
    "SGD": {
        "momentum": (0.0, 0.9), "dampening": (0.0, 0.3), "nesterov": (False, True), **DECAY
    },
    "Adam": ADAM,
    "AdamW": ADAM,
    "RMSprop": {
        "alpha": (0.99, 0.7), "eps": (1e-8, 1e-3), "momentum": (0.0, 0.8),
        "centered": (False, True), **DECAY,
    },
    "Adafactor": {
        "beta2_decay": (-0.8, -0.3), "eps": ((None, 1e-3), (1e-2, 0.1)), "d": (1.0, 2.0), **DECAY
    },
    "Muon": {
        "momentum": (0.95, 0.5), "nesterov": (False, True), "weight_decay": (0.0, 0.1),
        "adjust_lr_fn": ("original", "match_rms_adamw"), "ns_steps": (5, 2),
        "ns_coefficients": ((3.4445, -4.775, 2.0315), (2.0, -1.5, 0.5)), "eps": (1e-7, 10.0),
    },
}  # fmt: skip
RENAMED = {
    "betas": ("beta1", "beta2"),
    "eps": ("eps1", "eps2"),
    "adjust_lr_fn": ("adjust_lr",),
    "ns_steps": ("newton_schulz_steps",),
    "ns_coefficients": ("coefficients",),
}


def combinations():
    for name, values in OPTIONS.items():
        for chosen in product(*values.values()):
            options = dict(zip(values, chosen, strict=True))
            nesterov = name == "SGD" and options["nesterov"]
            if not nesterov or (options["momentum"] and not options["dampening"]):
                yield pytest.param(name, options, id=f"{name} {options}")


def renamed(options):
    """PyTorch's options in our names."""
    ours = {}
    for name, value in options.items():
        if isinstance(value, tuple) and name in ("betas", "eps"):
            ours |= dict(zip(RENAMED[name], value, strict=True))
        elif name in RENAMED and name != "eps":
            ours[RENAMED[name][0]] = value
        else:
            ours[name] = value
    return ours


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch")


@pytest.fixture(autouse=True, scope="module")
def one_thread(torch):
    """Arrays this small are no work for two, and two threads wait long on a busy machine."""
    import numba

    before = torch.get_num_threads(), numba.get_num_threads()
    torch.set_num_threads(1)
    numba.set_num_threads(1)
    yield
    torch.set_num_threads(before[0])
    numba.set_num_threads(before[1])


@pytest.fixture
def muon_at_full_precision(torch, monkeypatch):
    # PyTorch's iteration rounds to bfloat16; "at equal precision" is without that
    monkeypatch.setattr(torch.Tensor, "bfloat16", lambda tensor: tensor.clone())


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("name", "options"), list(combinations()))
def test_two_hundred_steps_give_the_parameters_of_torch(
    name, options, dtype, torch, muon_at_full_precision
):
    rng = np.random.default_rng(0)
    shapes = MATRICES if name == "Muon" else SHAPES
    start = {n: rng.standard_normal(shape).astype(dtype) for n, shape in shapes.items()}
    theirs = {n: torch.nn.Parameter(torch.tensor(value)) for n, value in start.items()}
    ours = {n: Parameter(value.copy()) for n, value in start.items()}
    single = {} if name == "Muon" else {"foreach": False}
    reference = getattr(torch.optim, name)(theirs.values(), lr=1e-2, **options, **single)
    rule = {"decays": optim.decays_everything} if name == "AdamW" else {}
    optimizer = getattr(optim, name)(ours, **renamed(options), **rule)
    for step in range(STEPS):
        for n, shape in shapes.items():
            gradient = np.asarray(rng.standard_normal(shape) * (1 + step % 7), dtype)
            theirs[n].grad = torch.tensor(gradient)
            ours[n].grad = gradient
        reference.step()
        optimizer.step(1e-2)
    for n in shapes:
        assert difference(ours[n].data, theirs[n].detach().numpy()) <= BOUND[dtype], n


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("max_norm", [0.5, 1e9])
def test_a_step_with_clipping_is_torchs_clipping_and_step(max_norm, dtype, torch):
    rng = np.random.default_rng(0)
    start = {name: rng.standard_normal(shape).astype(dtype) for name, shape in SHAPES.items()}
    theirs = {name: torch.nn.Parameter(torch.tensor(value)) for name, value in start.items()}
    ours = {name: Parameter(value.copy()) for name, value in start.items()}
    reference = torch.optim.SGD(theirs.values(), lr=0.1, momentum=0.9)
    optimizer = optim.SGD(ours, momentum=0.9)
    for _ in range(50):
        for name, shape in SHAPES.items():
            gradient = np.asarray(rng.standard_normal(shape), dtype)
            theirs[name].grad, ours[name].grad = torch.tensor(gradient), gradient
        wanted = torch.nn.utils.clip_grad_norm_(theirs.values(), max_norm).item()
        reference.step()
        norm = optimizer.step(0.1, max_norm=max_norm)
        assert abs(norm / wanted - 1) <= {"float32": 1e-6, "float64": 1e-14}[dtype]
    for name in SHAPES:
        assert difference(ours[name].data, theirs[name].detach().numpy()) <= BOUND[dtype]


@pytest.mark.parametrize("max_norm", [0.5, 3.0, 1e9])
@pytest.mark.parametrize("max_value", [None, 0.7])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_clipped_gradients_are_those_of_torch(dtype, max_value, max_norm, torch):
    rng = np.random.default_rng(1)
    theirs = [torch.nn.Parameter(torch.zeros(shape)) for shape in SHAPES.values()]
    ours = [Parameter(np.zeros(shape, dtype)) for shape in SHAPES.values()]
    theirs = [parameter.to(getattr(torch, dtype)).detach().requires_grad_() for parameter in theirs]
    for a, b in zip(ours, theirs, strict=True):
        a.grad = np.asarray(rng.standard_normal(a.shape), dtype)
        b.grad = torch.tensor(a.grad)
    if max_value is not None:
        torch.nn.utils.clip_grad_value_(theirs, max_value)
        optim.clip_grad_value(ours, max_value)
    wanted = torch.nn.utils.clip_grad_norm_(theirs, max_norm).item()
    assert optim.clip_grad_norm(ours, max_norm) == pytest.approx(wanted, rel=1e-6)
    for a, b in zip(ours, theirs, strict=True):
        assert difference(a.grad, b.grad.numpy()) <= {"float32": 1e-6, "float64": 1e-14}[dtype]
