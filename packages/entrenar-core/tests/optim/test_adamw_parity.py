"""AdamW and clipping against PyTorch's."""

import numpy as np
import pytest

from entrenar_core.autograd import Parameter
from entrenar_core.optim import AdamW
from entrenar_core.testing import difference

pytestmark = pytest.mark.parity

SHAPES = {"a": (7, 5), "b": (33,), "c": (3, 3, 2)}


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("max_norm", [0.5, 1e9])
@pytest.mark.parametrize(
    "options",
    [
        {"lr": 1e-2, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.01},
        {"lr": 3e-3, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.3},
        {"lr": 1e-2, "betas": (0.0, 0.5), "eps": 1e-8, "weight_decay": 0.0},
    ],
)
def test_fifty_steps_give_the_parameters_of_torch(options, max_norm, dtype, torch):
    rng = np.random.default_rng(0)
    start = {name: rng.standard_normal(shape).astype(dtype) for name, shape in SHAPES.items()}
    theirs = {name: torch.nn.Parameter(torch.tensor(value)) for name, value in start.items()}
    ours = {name: Parameter(value.copy()) for name, value in start.items()}
    reference = torch.optim.AdamW(theirs.values(), **options)
    adamw = AdamW(
        ours, beta1=options["betas"][0], beta2=options["betas"][1], eps=options["eps"],
        weight_decay=options["weight_decay"], decays=lambda name, parameter: True,
    )  # fmt: skip
    norms = []
    for _ in range(50):
        adamw.zero_grad()
        for name, shape in SHAPES.items():
            gradient = rng.standard_normal(shape).astype(dtype)
            theirs[name].grad = torch.tensor(gradient)
            ours[name].grad = gradient
        wanted = torch.nn.utils.clip_grad_norm_(theirs.values(), max_norm).item()
        reference.step()
        norms.append(abs(adamw.step(options["lr"], max_norm=max_norm) / wanted - 1))
    bound = {"float32": 2e-6, "float64": 1e-13}[dtype]
    assert max(norms) <= bound
    for name in SHAPES:
        assert difference(ours[name].data, theirs[name].detach().numpy()) <= bound
