"""Writing large results past the caches: a store that goes to memory at once spares the processor
from reading, before it is overwritten, what was there.

Only whole vectors at aligned addresses can be written so. A row is computed into a scratch array of
its thread's, which stays in the cache, and streamed from there.
"""

import math

import numba
import numpy as np

from entrenar_core.kernels.cpu.vectors import BYTES, I32, INTEGER, WIDTH, each_vector, load, routine

BEYOND_CACHES = 2**24
"""Results of at least so many bytes are in no cache any more when they are used next."""


@routine(*(INTEGER,) * 3)
def stream(builder, source, target, vectors):
    """Copy vectors to a target that is aligned to them."""
    written_once = builder.module.add_metadata([I32(1)])
    with each_vector(builder, vectors) as offset:
        value = load(builder, builder.add(source, offset))
        address = builder.inttoptr(builder.add(target, offset), value.type.as_pointer())
        stored = builder.store(value, address)
        stored.align = BYTES
        stored.set_metadata("nontemporal", written_once)


def streams(shape):
    """Whether rows (N, D) of a result are to be written past the caches."""
    return 4 * math.prod(shape) >= BEYOND_CACHES and shape[-1] % WIDTH == 0


def aligned(shape):
    """An array that begins at a multiple of a vector's size."""
    size = math.prod(shape)
    room = np.empty(size + WIDTH, np.float32)
    begin = -room.ctypes.data % BYTES // 4
    return room[begin : begin + size].reshape(shape)


def scratch(width):
    """A row for each thread, apart by more than a line of the cache."""
    return np.empty((numba.get_num_threads(), width + BYTES), np.float32)
