"""What the processor can do that kernels are compiled for.

LLVM ends the process when it is given an instruction that its target lacks, so this is asked before
anything is compiled. The target is this machine, unless numba is told of another one
(`NUMBA_CPU_NAME=generic`, `NUMBA_CPU_FEATURES`).
"""

import functools

import llvmlite.binding
from numba.core import config


@functools.cache
def _features() -> frozenset[str]:
    """The features of numba's target by LLVM's names."""
    chosen = config.CPU_FEATURES  # pyright: ignore[reportAttributeAccessIssue]
    given = llvmlite.binding.get_host_cpu_features().flatten() if chosen is None else chosen
    return frozenset(part[1:] for part in given.split(",") if part.startswith("+"))


def compiles_for(*features: str) -> bool:
    """Whether kernels may use all of these, such as `avx512f`."""
    return _features().issuperset(features)
