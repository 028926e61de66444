"""Writing large results past the caches: a store that goes to memory at once spares the processor
from reading, before it is overwritten, what was there.

Only whole vectors at aligned addresses can be written so.
"""

import math
from typing import Any

import numpy as np
from llvmlite import ir

from entrenar_core.kernels.cpu.vectors import BYTES, I8, I32, WIDTH, Builder

BEYOND_CACHES = 2**24
"""Results of at least so many bytes are in no cache any more when they are used next."""


def store_past(builder: Builder, value: Any, address: Any) -> None:
    """Store a vector at an address that is aligned to it."""
    stored = builder.store(value, builder.inttoptr(address, value.type.as_pointer()))
    stored.align = BYTES
    stored.set_metadata("nontemporal", builder.module.add_metadata([I32(1)]))


def read_ahead(builder: Builder, address: Any) -> None:
    """Have the processor read what is at an address, which need not be there. By itself it reads
    ahead up to the end of a page, and so does nothing while a row of that size is looked at once
    more."""
    pointer = I8.as_pointer()
    kind = ir.FunctionType(ir.VoidType(), [pointer, I32, I32, I32])
    name = "llvm.prefetch.p0"
    prefetch = builder.module.globals.get(name) or ir.Function(builder.module, kind, name=name)
    to_read, keep, data = I32(0), I32(3), I32(1)
    builder.call(prefetch, [builder.inttoptr(address, pointer), to_read, keep, data])


def streams(shape):
    """Whether rows (N, D) of a result are to be written past the caches."""
    return 4 * math.prod(shape) >= BEYOND_CACHES and shape[-1] % WIDTH == 0


def aligned(shape):
    """An array that begins at a multiple of a vector's size."""
    size = math.prod(shape)
    room = np.empty(size + WIDTH, np.float32)
    begin = -room.ctypes.data % BYTES // 4
    return room[begin : begin + size].reshape(shape)
