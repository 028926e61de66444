"""Arrays at addresses, for the work of a crew, which is told in whole numbers (see `crew`)."""

import ctypes

import numba
import numpy as np
from numba.core import types
from numba.np.numpy_support import as_dtype

from entrenar_core.kernels.cpu.compile import NOT_COMPILED, inner
from entrenar_core.kernels.cpu.threads import SERIAL
from entrenar_core.kernels.cpu.vectors import carray, intrinsic

PLAN = 16
"""Numbers in what a crew is told: sizes, and the addresses of arrays."""


def _array_at(kind):
    """A function from an address to the array (rows, columns) of `kind` that lies there."""

    if NOT_COMPILED:
        number = np.ctypeslib.as_ctypes_type(as_dtype(kind))
        return lambda address, rows, columns: carray(
            ctypes.cast(int(address), ctypes.POINTER(number)), (rows, columns)
        )

    @intrinsic
    def pointer(_typing, _address):
        def generate(_context, builder, signature, arguments):
            target = _context.get_value_type(signature.return_type)
            return builder.inttoptr(arguments[0], target)

        return types.CPointer(kind)(types.int64), generate

    @inner
    def array(address, rows, columns):
        return carray(pointer(address), (rows, columns))

    return array


floats, doubles, wholes = map(_array_at, (types.float32, types.float64, types.int64))
halves, shorts = map(_array_at, (types.uint16, types.int16))
"""Functions from an address to the array (rows, columns) of such numbers that lies there."""


def address(array):
    """Where its memory begins; `ctypes.data` takes twice as long to say."""
    return array.__array_interface__["data"][0]


def threads_for(size):
    """How many threads share work on so many numbers."""
    return numba.get_num_threads() if size > SERIAL else 1


def told(*numbers):
    """A crew's plan: arrays are told by their addresses."""
    plan = np.zeros(PLAN, np.int64)
    for i, number in enumerate(numbers):
        plan[i] = address(number) if isinstance(number, np.ndarray) else number
    return plan
