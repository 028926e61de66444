"""How kernels are compiled: lazily, cached on disk, keeping NaN and infinity."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import numpy as np
from numba.core import config as numba_config

from entrenar_core.kernels.cpu.compiler import read_through_child
from entrenar_core.kernels.cpu.linked import PartCompiler
from entrenar_core.kernels.cpu.stamp import stamp

KEEPS_NAN = {"nsz", "arcp", "contract", "afn", "reassoc"}
"""The parts of LLVM's fast-math that let reductions vectorize; `nnan` and `ninf` are left out, so
that a NaN in a batch stays visible."""

LANES = 16
"""Partial results of a reduction over rows. A constant, so that the number of threads does not
change a bit of the result."""

SERIAL = 16_384
"""Elements up to which an elementwise kernel or one over rows uses the calling thread alone: waking
another one takes longer than the work."""

BLOCK = 4_096
"""Elements of a piece of an elementwise kernel's work."""


def start_threads() -> None:
    """Load numba's thread pool with workers that soon sleep while they wait.

    GNU OpenMP lets idle workers spin for milliseconds unless it is told otherwise. Beside another
    busy process that makes a training step five times slower. Workers that never spin are woken
    anew by every kernel, which takes 45 µs; with a spin of some 20 µs a kernel that follows another
    starts within 2 µs, and a busy neighbour costs a few percent more. The variable is read once,
    when the pool is loaded, and is taken back after that; a setting of the user's is left alone.
    """
    chosen = {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & os.environ.keys()
    if not chosen:
        os.environ["GOMP_SPINCOUNT"] = "2000"
    numba.get_num_threads()  # loads the pool
    if not chosen:
        del os.environ["GOMP_SPINCOUNT"]


def cache_folder() -> Path:
    """Where compiled kernels are kept: `$NUMBA_CACHE_DIR`, else `entrenar/kernels` under the
    user's cache folder."""
    chosen = os.environ.get("NUMBA_CACHE_DIR")
    if chosen:
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "entrenar" / "kernels"


def jit(
    function: Callable[..., Any],
    *,
    fastmath: set[str] | bool = KEEPS_NAN,
) -> Any:
    """`function` compiled at its first call, and cached in `cache_folder` where that can be
    written. Other numba code in the process keeps its own cache setting.

    `fastmath` is what LLVM may change, in the routines of `vectors` that are called too.
    """
    options: dict[str, Any] = {"fastmath": fastmath, "error_model": "numpy"}
    if numba_config.DISABLE_JIT:  # pyright: ignore[reportAttributeAccessIssue]
        return function
    before = numba_config.CACHE_DIR  # pyright: ignore[reportAttributeAccessIssue]
    numba_config.CACHE_DIR = str(cache_folder())  # pyright: ignore[reportAttributeAccessIssue]
    try:
        dispatcher = numba.njit(cache=True, **options)(function)
        stamp(dispatcher)
        read_through_child(dispatcher)
        return dispatcher
    except RuntimeError:  # numba found no folder that it can write: compile every time
        return numba.njit(**options)(function)
    finally:
        numba_config.CACHE_DIR = before  # pyright: ignore[reportAttributeAccessIssue]


_PART: Any = {
    "fastmath": KEEPS_NAN, "error_model": "numpy", "no_cpython_wrapper": True,
    "no_cfunc_wrapper": True, "pipeline_class": PartCompiler,
}  # fmt: skip

inner = numba.njit(**_PART)
"""For functions that kernels call. They are compiled and cached as parts of the kernels."""

inner_exactly = numba.njit(**_PART | {"fastmath": False})
"""The same with every operation rounded by itself, also in the routines that are called there."""


def serial(function: Callable[..., Any]) -> Any:
    """`function` compiled for the calling thread: a part of the work of a `jit` kernel."""
    return jit(function)


def exactly(function: Callable[..., Any]) -> Any:
    """`function` compiled as `jit` does, with every operation rounded by itself."""
    return jit(function, fastmath=False)


F = np.float32


@inner
def exp(x):
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


@inner
def erf(x):
    """erf x, relative error below 5e-7; NaN stays NaN.

    x·P(x²)/Q(x²), fitted for the least relative error on 0 < x < 3.925, from where on erf x is 1
    in float32.
    """
    x = F(3.925) if x > F(3.925) else (F(-3.925) if x < F(-3.925) else x)
    t = x * x
    p = F(2.04616572e-06)
    p = p * t + F(2.84831276e-04)
    p = p * t + F(3.77191019e-03)
    p = p * t + F(5.27673043e-02)
    p = p * t + F(1.90578530e-01)
    p = p * t + F(1.12837915)
    q = F(3.80485841e-05)
    q = q * t + F(1.16370725e-03)
    q = q * t + F(1.49819049e-02)
    q = q * t + F(1.14176448e-01)
    q = q * t + F(5.02228558e-01)
    q = q * t + F(1.0)
    return x * p / q


@inner
def sigmoid(x):
    """1/(1 + e⁻ˣ), relative error below 4e-7; e⁻⁸⁰ below −80, NaN stays NaN."""
    negative = F(80.0) if -x > F(80.0) else -x
    return F(1.0) / (F(1.0) + exp(negative))


@inner
def blocks_of(size):
    """Into how many blocks so many elements are cut."""
    return (size + BLOCK - 1) // BLOCK


@inner
def peak_of(row):
    """The largest element of a row, −∞ for an empty one; a NaN may be passed over.

    A maximum of floats does not vectorize as long as NaN has to be kept. Floats are ordered as the
    integers that have their bits are, once those of negative ones are flipped.
    """
    best = np.int32(-0x7F800001)  # −∞
    for j in range(row.size):
        bits = np.float32(row[j]).view(np.int32)
        best = max(best, np.int32(bits ^ ((bits >> np.int32(31)) & np.int32(0x7FFFFFFF))))
    bits = np.int32(best ^ ((best >> np.int32(31)) & np.int32(0x7FFFFFFF)))
    return bits.view(np.float32)


start_threads()
