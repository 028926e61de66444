"""How kernels are compiled: lazily, in parallel, cached on disk, keeping NaN and infinity."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import numpy as np
from numba.core import config as numba_config

from entrenar_core.kernels.cpu.compiler import read_through_child

KEEPS_NAN = {"nsz", "arcp", "contract", "afn", "reassoc"}
"""The parts of LLVM's fast-math that let reductions vectorize; `nnan` and `ninf` are left out, so
that a NaN in a batch stays visible."""

LANES = 16
"""Partial results of a reduction over rows. A constant, so that the number of threads does not
change a bit of the result."""


def start_threads() -> None:
    """Load numba's thread pool with workers that sleep, not spin, while they wait.

    GNU OpenMP lets idle workers spin unless `OMP_WAIT_POLICY` says otherwise. Alone on the machine
    that gains nothing that can be measured here; beside another busy process it makes a training
    step five times slower. The variable is read once, when the pool is loaded, and is taken back
    after that; a setting of the user's is left alone.
    """
    chosen = {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & os.environ.keys()
    if not chosen:
        os.environ["OMP_WAIT_POLICY"] = "passive"
    numba.get_num_threads()  # loads the pool
    if not chosen:
        del os.environ["OMP_WAIT_POLICY"]


def cache_folder() -> Path:
    """Where compiled kernels are kept: `$NUMBA_CACHE_DIR`, else `entrenar/kernels` under the
    user's cache folder."""
    chosen = os.environ.get("NUMBA_CACHE_DIR")
    if chosen:
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "entrenar" / "kernels"


def jit(function: Callable[..., Any], *, parallel: bool = True, inline: str = "never") -> Any:
    """`function` compiled at its first call, and cached in `cache_folder` where that can be
    written. Other numba code in the process keeps its own cache setting."""
    options: dict[str, Any] = {
        "parallel": parallel, "fastmath": KEEPS_NAN, "error_model": "numpy", "inline": inline
    }  # fmt: skip
    if inline != "never":
        return numba.njit(**options)(function)
    before = numba_config.CACHE_DIR  # pyright: ignore[reportAttributeAccessIssue]
    numba_config.CACHE_DIR = str(cache_folder())  # pyright: ignore[reportAttributeAccessIssue]
    try:
        dispatcher = numba.njit(cache=True, **options)(function)
        read_through_child(dispatcher)
        return dispatcher
    except RuntimeError:  # numba found no folder that it can write: compile every time
        return numba.njit(**options)(function)
    finally:
        numba_config.CACHE_DIR = before  # pyright: ignore[reportAttributeAccessIssue]


F = np.float32


def _exp(x):
    """eˣ for x ≤ 88, relative error below 2e-7; e⁻⁸⁷ below −87, NaN stays NaN.

    x = k·ln 2 + r with ln 2 in two parts (Cody and Waite), a polynomial of degree 6 in r, and 2ᵏ
    built in the exponent's bits: numba has no vector math library, and a call of `math.exp` in a
    loop keeps it from vectorizing.
    """
    x = F(-87.0) if x < F(-87.0) else x
    k = np.floor(x * F(1.44269504) + F(0.5))
    r = x - k * F(0.693359375) + k * F(2.12194440e-4)
    p = F(1.9875691500e-4)
    p = p * r + F(1.3981999507e-3)
    p = p * r + F(8.3334519073e-3)
    p = p * r + F(4.1665795894e-2)
    p = p * r + F(1.6666665459e-1)
    p = p * r + F(5.0000001201e-1)
    p = p * r * r + r + F(1.0)
    bits = np.int32(np.int32(k) + np.int32(127)) << np.int32(23)
    return p * np.int32(bits).view(np.float32)


start_threads()
exp = jit(_exp, parallel=False, inline="always")
