"""Every operation with inputs to check it on and what PyTorch calls the same.

One table serves all checks of an operation: `test_op_gradients.py` (central differences, memory
layouts), `test_op_parity.py` (values and gradients of PyTorch), and whatever comes later. A module
of this package covers the module of `ops` with its name.
"""

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

RNG = np.random.default_rng(0)


@dataclass(frozen=True)
class OpCase:
    """One call of the operation named `op`.

    `call(*inputs)` takes tensors for the inputs that are arrays of floats (they are
    differentiated) and all others as they are. `torch(torch, *inputs)` computes the same with
    torch tensors in their place; None where PyTorch has no such function, which `oracle` explains.
    """

    op: str
    call: Callable[..., Any]
    inputs: tuple[Any, ...]
    torch: Callable[..., Any] | None
    oracle: str = ""
    label: str = ""

    def __post_init__(self) -> None:
        assert self.torch or self.oracle, f"{self.op}: say what proves its values"


def case(
    op: str,
    call: Callable[..., Any],
    *inputs: Any,
    torch: Callable[..., Any] | None = None,
    oracle: str = "",
    label: str = "",
) -> OpCase:
    return OpCase(op, call, inputs, torch, oracle, label)


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape)


def away_from_zero(*shape: int) -> np.ndarray:
    return RNG.uniform(0.5, 2.0, shape) * RNG.choice([-1.0, 1.0], shape)


def positive(*shape: int) -> np.ndarray:
    return RNG.uniform(0.2, 3.0, shape)


def distinct(*shape: int) -> np.ndarray:
    """Values at least 0.1 apart in a random order: no ties within a step of a difference."""
    size = int(np.prod(shape))
    return (RNG.permutation(size).reshape(shape) - size / 2) * 0.1


def all_cases() -> list[OpCase]:
    found: list[OpCase] = []
    for module in pkgutil.iter_modules(__path__):
        found += importlib.import_module(f"{__name__}.{module.name}").CASES
    return found
