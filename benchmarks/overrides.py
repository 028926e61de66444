"""Every compiled kernel beside its reference in NumPy.

    python benchmarks/overrides.py [--only attention] [--json]

The shapes are those of a 24M LLaMA (2,048 tokens, width 288). The candidates are called in turns
and the medians compared. Exits with 1 when a kernel is slower than its reference: such a one is to
be deleted.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np

from entrenar_common.output import Output
from entrenar_common.tables import Table, Text
from entrenar_core.environment import Environment, environment
from entrenar_core.kernels import KERNELS
from entrenar_core.kernels.divergences import Divergence

TOKENS, WIDTH, INNER, VOCABULARY = 2048, 288, 768, 32000
BATCH, TIME, HEADS, HEAD = 8, 256, 6, 48
CHUNK = 512
MARGIN = 1.05
"""Slower by less than this is noise."""

Call = tuple[tuple[Any, ...], dict[str, Any]]
_RNG = np.random.default_rng(0)


def _normal(*shape: int) -> np.ndarray:
    return _RNG.standard_normal(shape, np.float32)


def _ids(count: int) -> np.ndarray:
    return _RNG.integers(0, VOCABULARY, count)


def _heads() -> np.ndarray:
    return _normal(BATCH, TIME, HEADS, HEAD)


def _attention_grad() -> Call:
    q, k, v, g = (_heads() for _ in range(4))
    o, lse = KERNELS["attention.attention"](q, k, v, scale=HEAD**-0.5)
    return (g, q, k, v, o, lse), {"scale": HEAD**-0.5}


def _rope() -> Call:
    angles = np.arange(TIME)[:, None] / 10000 ** (np.arange(HEAD // 2) / (HEAD // 2))
    return (_heads(), np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)), {}


def _adamw() -> Call:
    p, g, m, v = (_normal(24_000_000) for _ in range(4))
    options = {"lr": 1e-3, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8}
    return (p, g, m, np.abs(v)), {**options, "weight_decay": 0.01, "step": 10, "scale": 0.5}


def _norm_grad() -> Call:
    x, weight = _normal(TOKENS, WIDTH), _normal(WIDTH)
    _, rstd = KERNELS["norm.rms_norm"](x, weight, eps=1e-6)
    return (_normal(TOKENS, WIDTH), x, weight, rstd), {}


CASES: dict[str, Callable[[], Call]] = {
    "activation.swiglu": lambda: ((_normal(TOKENS, INNER), _normal(TOKENS, INNER)), {}),
    "activation.swiglu_grad": lambda: (tuple(_normal(TOKENS, INNER) for _ in range(3)), {}),
    "attention.attention": lambda: (tuple(_heads() for _ in range(3)), {"scale": HEAD**-0.5}),
    "attention.attention_grad": _attention_grad,
    "attention.rope": _rope,
    "embedding.embedding_grad": lambda: (
        (_normal(TOKENS, WIDTH), _ids(TOKENS)),
        {"out": _normal(VOCABULARY, WIDTH), "add": False},
    ),
    "loss.cross_entropy": lambda: ((_normal(CHUNK, VOCABULARY), _ids(CHUNK)), {}),
    "loss.cross_entropy_grad": lambda: (
        (_normal(CHUNK, VOCABULARY), _ids(CHUNK)),
        {"scale": 1e-3},
    ),
    "distillation.distillation_grad": lambda: (
        (_normal(CHUNK, VOCABULARY), _normal(CHUNK, VOCABULARY), _ids(CHUNK)),
        {
            "divergence": Divergence(temperature=2.0),
            "alpha": 0.5,
            "shared": VOCABULARY,
            "scale": 1e-3,
        },
    ),
    "matmul.matmul": lambda: (
        (_normal(TOKENS, WIDTH), _normal(INNER, WIDTH)),
        {"trans_b": True, "out": _normal(TOKENS, INNER)},
    ),
    "norm.rms_norm": lambda: ((_normal(TOKENS, WIDTH), _normal(WIDTH)), {"eps": 1e-6}),
    "norm.rms_norm_grad": _norm_grad,
    "update.accumulate": lambda: ((_normal(4_000_000), _normal(4_000_000)), {}),
    "update.adamw": _adamw,
    "update.sum_of_squares": lambda: ((_normal(24_000_000),), {}),
}
"""A call of each kernel at a realistic size. In-place kernels are called again on their results,
which takes as long."""


@dataclass
class KernelTime:
    """Milliseconds a call: medians, and those of each round."""

    kernel: str
    override: float
    reference: float
    override_rounds: list[float]
    reference_rounds: list[float]

    @property
    def slower(self) -> bool:
        return self.override > MARGIN * self.reference


@dataclass
class KernelReport:
    """All kernels."""

    environment: Environment
    kernels: list[KernelTime]

    def __view__(self) -> Iterator[Any]:
        rows = [
            [
                k.kernel,
                f"{k.override:.2f}",
                f"{k.reference:.2f}",
                f"{k.reference / k.override:.2f}×",
            ]
            for k in self.kernels
        ]
        yield Table("ms a call", ["", "compiled", "reference", ""], rows)
        for k in self.kernels:
            if k.slower:
                yield Text(f"{k.kernel} is slower than its reference", "bad")


def measure(name: str, rounds: int) -> KernelTime:
    """The medians over `rounds` turns of the candidates for one kernel."""
    entry = KERNELS[name]
    args, kwargs = CASES[name]()
    candidates: dict[str, Callable[[], Any]] = {
        "override": lambda: entry(*args, **kwargs),
        "reference": lambda: entry.reference(*args, **kwargs),
    }
    times: dict[str, list[float]] = {candidate: [] for candidate in candidates}
    for _ in range(rounds):
        for candidate, function in candidates.items():
            times[candidate].append(_milliseconds(function))
    found = {candidate: median(values) for candidate, values in times.items()}
    return KernelTime(name, **found, **{f"{key}_rounds": each for key, each in times.items()})


def _milliseconds(function: Callable[[], Any]) -> float:
    function()
    times: list[float] = []
    while len(times) < 3 or (sum(times) < 0.05 and len(times) < 20):
        begun = time.perf_counter()
        function()
        times.append(time.perf_counter() - begun)
    return 1e3 * median(times)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--only", default="", help="kernels whose name contains this")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each candidate (5)")
    parser.add_argument("--json", action="store_true", help="one JSON document instead of a table")
    options = parser.parse_args()
    out = Output(json=options.json)
    found = []
    for name, entry in KERNELS.items():
        entry.load("cpu")
        if options.only in name and entry.overrides:
            out.note(name)
            found.append(measure(name, options.rounds))
    out.emit(KernelReport(environment(), found), "entrenar.benchmark.overrides/1")
    sys.exit(1 if any(kernel.slower for kernel in found) else 0)


if __name__ == "__main__":
    main()
