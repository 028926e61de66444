"""What this machine can do at most, measured: the ceilings that a training's speed is under."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from entrenar_common.tables import Fields
from entrenar_core.environment import environment

__all__ = ["Hardware", "measure"]

_SIZE = 1536
_COPY_BYTES = 128 * 2**20
_FEWEST, _SECONDS = 3, 0.5
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True)
class Hardware:
    """A machine with its measured ceilings.

    sgemm_gflops: 10⁹ floating-point operations a second of float32 matrix products, 2n³ for each;
    copy_gb_per_s: 10⁹ bytes a second that a copy reads and writes, counted both ways. Each is the
    best of `repeats`.
    """

    cpu: str
    processors: int
    usable_processors: int
    thread_variables: dict[str, str]
    blas: str
    python: str
    numpy: str
    sgemm_gflops: float
    sgemm_size: int
    copy_gb_per_s: float
    copy_bytes: int
    repeats: tuple[int, int]

    def __view__(self) -> Iterator[Any]:
        set_ = ", ".join(f"{name}={value}" for name, value in self.thread_variables.items())
        yield Fields(
            None,
            [
                ("CPU", self.cpu),
                ("processors", f"{self.processors}, of which this process may use "
                 f"{self.usable_processors}"),
                ("threads", set_ or "no variable limits them"),
                ("BLAS", self.blas),
                ("Python, NumPy", f"{self.python}, {self.numpy}"),
                ("sgemm", f"{self.sgemm_gflops:.0f} GFLOP/s ({self.sgemm_size}³, best of "
                 f"{self.repeats[0]})"),
                ("copy", f"{self.copy_gb_per_s:.1f} GB/s read and written "
                 f"({self.copy_bytes // 2**20} MiB, best of {self.repeats[1]})"),
            ],
        )  # fmt: skip


def measure(*, seconds: float = _SECONDS) -> Hardware:
    """Time matrix products and copies for about so many seconds each."""
    found = environment()
    products, product = _best(_product(), seconds)
    copies, copy = _best(_copy(), seconds)
    return Hardware(
        cpu=found.cpu,
        processors=os.cpu_count() or 1,
        usable_processors=_usable(),
        thread_variables={n: os.environ[n] for n in THREAD_VARIABLES if n in os.environ},
        blas=found.blas,
        python=found.python,
        numpy=found.numpy,
        sgemm_gflops=2 * _SIZE**3 / product / 1e9,
        sgemm_size=_SIZE,
        copy_gb_per_s=2 * _COPY_BYTES / copy / 1e9,
        copy_bytes=_COPY_BYTES,
        repeats=(products, copies),
    )


def _product() -> Callable[[], Any]:
    a = np.random.default_rng(0).standard_normal((_SIZE, _SIZE), np.float32)
    out = np.empty_like(a)
    return lambda: np.matmul(a, a, out=out)


def _copy() -> Callable[[], Any]:
    source = np.ones(_COPY_BYTES // 8)
    target = np.zeros_like(source)
    return lambda: np.copyto(target, source)


def _best(work: Callable[[], Any], seconds: float) -> tuple[int, float]:
    """How often `work` was done, and the seconds of the fastest time; the first one warms up."""
    work()
    times: list[float] = []
    while len(times) < _FEWEST or sum(times) < seconds:
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return len(times), min(times)


def _usable() -> int:
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1
