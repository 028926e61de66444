"""Work that threads share out among themselves, as functions that are called by their address.

What they are told is numbers, so one that is compiled serves all types and layouts of arrays.
"""

import contextlib
import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.core.ccallback import CFunc

from entrenar_core.kernels.cpu.compile import KEEPS_NAN, NOT_COMPILED, cached, inner, jit
from entrenar_core.kernels.cpu.compiler import without_registries
from entrenar_core.kernels.cpu.stamp import stamp
from entrenar_core.kernels.cpu.threads import SERIAL, share_out
from entrenar_core.kernels.cpu.vectors import intrinsic

_I64, _NUMBERS = ir.IntType(64), ctypes.POINTER(ctypes.c_int64)
MANY = SERIAL + 1
"""Elements that are too many for one thread."""


@intrinsic
def _call(_typing, _function, _plan, _thread):
    """Call the function at an address."""

    def generate(context, builder, _signature, arguments):
        function, plan, thread = arguments
        kind = ir.FunctionType(ir.VoidType(), [_I64.as_pointer(), _I64])
        pointer = builder.inttoptr(function, kind.as_pointer())
        builder.call(pointer, [builder.inttoptr(plan, _I64.as_pointer()), thread])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), generate


@inner
def _call_some(first, last, function, plan):
    for thread in range(first, last):
        _call(function, plan, thread)


@jit
def run(function, plan, threads):
    """`Crew` for compiled code: `function` is its address."""
    share_out(_call_some, threads, MANY, (function, plan.ctypes.data))


class Crew:
    """`work(plan, thread)`, run by several threads at once; `plan` is a pointer to int64 numbers.

    Compiled at the first call, and cached like all kernels. `fastmath` is what LLVM may change, in
    the routines of `vectors` that are called too.
    """

    def __init__(
        self, work: Callable[[Any, int], None], *, fastmath: set[str] | bool = KEEPS_NAN
    ) -> None:
        self._work, self._fastmath, self._compiled = work, fastmath, None

    def __call__(self, plan: np.ndarray, threads: int) -> None:
        """Call work(plan, 0) to work(plan, threads − 1)."""
        if NOT_COMPILED:
            for thread in range(threads):
                self._work(plan.ctypes.data_as(_NUMBERS), thread)
            return
        run(self.address, plan, threads)

    @property
    def address(self) -> int:
        """Of `work` as it is compiled."""
        if self._compiled is None:
            self._compiled = self._compile()
        return self._compiled.address

    def _compile(self) -> Any:
        signature = (types.CPointer(types.int64), types.int64), types.void
        options = {"fastmath": self._fastmath, "error_model": "numpy"}
        found: Any = CFunc(self._work, signature, {}, options)
        # where numba finds no folder that it can write, it compiles every time
        with contextlib.suppress(RuntimeError), cached():
            found.enable_caching()
            stamp(found)
            found._cache.load_overload = without_registries(found._cache)
        found.compile()
        return found
