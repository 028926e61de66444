"""How kernels are compiled: lazily, cached on disk, keeping NaN and infinity."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numba
import numpy as np
from numba.core import config as numba_config

from entrenar_core.kernels.cpu.compiler import read_through_child
from entrenar_core.kernels.cpu.linked import PIPELINE
from entrenar_core.kernels.cpu.stamp import stamp

KEEPS_NAN = {"nsz", "arcp", "contract", "afn", "reassoc"}
"""The parts of LLVM's fast-math that let reductions vectorize; `nnan` and `ninf` are left out, so
that a NaN in a batch stays visible."""

F = np.float32

_config: Any = numba_config

NOT_COMPILED: bool = bool(_config.DISABLE_JIT)
"""Whether numba was told to compile nothing (`NUMBA_DISABLE_JIT`), for coverage and debuggers: then
all is done in Python."""


def cache_folder() -> Path:
    """Where compiled kernels are kept: `$NUMBA_CACHE_DIR`, else `entrenar/kernels` under the
    user's cache folder."""
    chosen = os.environ.get("NUMBA_CACHE_DIR")
    if chosen:
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "entrenar" / "kernels"


@contextmanager
def cached() -> Iterator[None]:
    """In the body numba is told to keep what it compiles in `cache_folder`. Other code in the
    process keeps its own setting."""
    before = _config.CACHE_DIR
    _config.CACHE_DIR = str(cache_folder())
    try:
        yield
    finally:
        _config.CACHE_DIR = before


def jit(function: Callable[..., Any], *, fastmath: set[str] | bool = KEEPS_NAN) -> Any:
    """`function` compiled at its first call, and cached in `cache_folder` where that can be
    written.

    `fastmath` is what LLVM may change, in the routines of `vectors` that are called too.
    """
    options: dict[str, Any] = {
        "fastmath": fastmath,
        "error_model": "numpy",
        "no_cfunc_wrapper": True,
    }
    if NOT_COMPILED:
        return function
    try:
        with cached():
            dispatcher = numba.njit(cache=True, **options)(function)
            stamp(dispatcher)
            read_through_child(dispatcher)
            return dispatcher
    except RuntimeError:  # numba found no folder that it can write: compile every time
        return numba.njit(**options)(function)


_PART: Any = {
    "fastmath": KEEPS_NAN, "error_model": "numpy", "no_cpython_wrapper": True,
    "no_cfunc_wrapper": True, **PIPELINE,
}  # fmt: skip

inner = numba.njit(**_PART)
"""For functions that kernels call. They are compiled and cached as parts of the kernels."""

inner_exactly = numba.njit(**_PART | {"fastmath": False})
"""The same with every operation rounded by itself, also in the routines that are called there."""


def exactly(function: Callable[..., Any]) -> Any:
    """`function` compiled as `jit` does, with every operation rounded by itself."""
    return jit(function, fastmath=False)
