"""Writing large results past the caches: a store that goes to memory at once spares the processor
from reading, before it is overwritten, what was there.

Only whole vectors at aligned addresses can be written so.
"""

import math
from typing import Any

import numpy as np

from entrenar_core.kernels.cpu.compile import inner
from entrenar_core.kernels.cpu.vectors import (
    BYTES,
    I32,
    INTEGER,
    WIDTH,
    Builder,
    each_vector,
    load,
    routine,
)

BEYOND_CACHES = 2**24
"""Results of at least so many bytes are in no cache any more when they are used next."""

PIECE = 256
"""Numbers that are made before they are written past the caches: with more, memory waits for the
processor while they are made, and the processor for memory after that."""


def store_past(builder: Builder, value: Any, address: Any) -> None:
    """Store a vector at an address that is aligned to it."""
    stored = builder.store(value, builder.inttoptr(address, value.type.as_pointer()))
    stored.align = BYTES
    stored.set_metadata("nontemporal", builder.module.add_metadata([I32(1)]))


def aligned(shape):
    """An array that begins at a multiple of a vector's size."""
    size = math.prod(shape)
    room = np.empty(size + WIDTH, np.float32)
    begin = -room.ctypes.data % BYTES // 4
    return room[begin : begin + size].reshape(shape)


def result(shape):
    """An array for a result, and whether rows (…, D) of it are to be written past the caches."""
    past = 4 * math.prod(shape) >= BEYOND_CACHES and shape[-1] % WIDTH == 0
    return aligned(shape) if past else np.empty(shape, np.float32), past


# --- in loops over pieces of flat arrays ---------------------------------------------------------


@routine(*(INTEGER,) * 3)
def _copy_past(builder, source, target, vectors):
    with each_vector(builder, vectors) as offset:
        value = load(builder, builder.add(source, offset))
        store_past(builder, value, builder.add(target, offset))


@inner
def put_past(piece, target):
    """Write what was made in `piece`, or as much of it as `target` takes, past the caches. No view
    is to be taken of a piece for each: counting who holds it waits for what was written so."""
    _copy_past(piece.ctypes.data, target.ctypes.data, target.size // WIDTH)
