"""What this machine reaches at best, measured: a large matrix product, and a large copy."""

import time
from collections.abc import Callable

import numpy as np

from entrenar_bench.profile.record import Ceilings
from entrenar_core import kernels
from entrenar_core.train.process import keep_freed_memory

__all__ = ["measured_ceilings"]

_SIDE = 1024
_COPIED = 2**25  # float32 numbers, 128 MiB: larger than caches
_TIMES = 5


def measured_ceilings() -> Ceilings:
    """The best of a few: float32 products of 1024 × 1024 matrices, and copies of 128 MiB, of which
    what is read and what is written count."""
    keep_freed_memory()
    a, out = (np.ones((_SIDE, _SIDE), np.float32) for _ in range(2))
    source, target = (np.ones(_COPIED, np.float32) for _ in range(2))
    product = _fastest(lambda: kernels.matmul(a, a, trans_b=True, out=out))
    copy = _fastest(lambda: np.copyto(target, source))
    return Ceilings(gflops=2 * _SIDE**3 / product / 1e9, gigabytes=2 * source.nbytes / copy / 1e9)


def _fastest(function: Callable[[], object]) -> float:
    function()  # compiles, and touches the memory
    found = []
    for _ in range(_TIMES):
        started = time.perf_counter()
        function()
        found.append(time.perf_counter() - started)
    return min(found)
