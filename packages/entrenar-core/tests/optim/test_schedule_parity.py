"""Schedules against torch.optim.lr_scheduler, over 250 steps."""

import pytest

from entrenar_core.optim import (
    Constant,
    Cosine,
    CosineRestarts,
    Exponential,
    Linear,
    Polynomial,
    Step,
    Warmup,
    joined,
)
from entrenar_core.testing import difference

pytestmark = pytest.mark.parity

STEPS = 250
RATE = 0.3


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch")


def warm_restarts(growth):
    return (
        CosineRestarts(RATE, 20, growth, 0.01),
        lambda s, o: s.CosineAnnealingWarmRestarts(o, 20, growth, 0.01),
    )


CASES = {
    "constant": (Constant(RATE), lambda s, o: s.ConstantLR(o, 1.0, 5)),
    "constant, then another": (
        joined((Constant(RATE / 4), 100), Constant(RATE)),
        lambda s, o: s.ConstantLR(o, 0.25, 100),
    ),
    "linear warm-up": (Warmup(RATE, 40), lambda s, o: s.LinearLR(o, 1 / 40, 1.0, 39)),
    "linear": (Linear(RATE, 200, RATE / 10), lambda s, o: s.LinearLR(o, 1.0, 0.1, 200)),
    "linear, rising": (Linear(RATE / 3, 300, RATE), lambda s, o: s.LinearLR(o, 1 / 3, 1.0, 300)),
    "cosine": (Cosine(RATE, STEPS), lambda s, o: s.CosineAnnealingLR(o, STEPS)),
    "cosine to a floor": (
        Cosine(RATE, STEPS, 0.02),
        lambda s, o: s.CosineAnnealingLR(o, STEPS, 0.02),
    ),
    "cosine with restarts": warm_restarts(1),
    "cosine with growing restarts": warm_restarts(2),
    "cosine with fast growing restarts": warm_restarts(3),
    "polynomial": (Polynomial(RATE, 200, 2.5), lambda s, o: s.PolynomialLR(o, 200, 2.5)),
    "polynomial of power 1": (Polynomial(RATE, 270), lambda s, o: s.PolynomialLR(o, 270, 1.0)),
    "step": (Step(RATE, 30, 0.5), lambda s, o: s.StepLR(o, 30, 0.5)),
    "exponential": (Exponential(RATE, 0.99), lambda s, o: s.ExponentialLR(o, 0.99)),
    "milestones": (
        joined((Constant(RATE), 50), (Constant(RATE / 2), 70), Constant(RATE / 4)),
        lambda s, o: s.MultiStepLR(o, [50, 120], 0.5),
    ),
    "warm-up, then cosine": (
        joined((Warmup(RATE, 25), 25), Cosine(RATE, 225)),
        lambda s, o: s.SequentialLR(
            o, [s.LinearLR(o, 1 / 25, 1.0, 24), s.CosineAnnealingLR(o, 225)], [25]
        ),
    ),
    "three in sequence": (
        joined((Warmup(RATE, 25), 25), (Linear(RATE, 60, RATE / 2), 100), Exponential(RATE, 0.97)),
        lambda s, o: s.SequentialLR(
            o,
            [
                s.LinearLR(o, 1 / 25, 1.0, 24),
                s.LinearLR(o, 1.0, 0.5, 60),
                s.ExponentialLR(o, 0.97),
            ],
            [25, 125],
        ),
    ),
}


@pytest.mark.filterwarnings("ignore:The epoch parameter in `scheduler.step:UserWarning")
@pytest.mark.parametrize("name", CASES)
def test_every_rate_is_that_of_torch(name, torch):
    ours, make = CASES[name]
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=RATE)
    scheduler = make(torch.optim.lr_scheduler, optimizer)
    wanted = []
    for _ in range(STEPS):
        wanted.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert difference([ours(step) for step in range(STEPS)], wanted) <= 1e-12
