"""What the compiled functions of attention are told, and how arrays are laid out for them."""

from typing import Any

import numba
import numpy as np

from entrenar_core.kernels.cpu.arrays import address
from entrenar_core.kernels.cpu.attention_tiles import (
    BAND,
    BIAS,
    BLOCK,
    CHANCE,
    COLUMNS,
    CUTS,
    DBIAS,
    DK,
    DQ,
    DV,
    EVERYWHERE,
    FIRST,
    LSE,
    NUMBERS,
    ROOM,
    SIZES,
    SPANS,
    TILE,
    TILES,
    VISIBLE,
    G,
    K,
    O,
    Q,
    V,
)
from entrenar_core.kernels.cpu.vectors import WIDTH
from entrenar_core.kernels.dropout import threshold

PIECES = 12
"""The backward pass, and the forward one of few queries, are cut along the keys until there are so
many pieces."""


def forward_in_tiles(crew, scratch_size, q, k, v, bias, options):
    """`attention` by the compiled forward pass `crew`; `scratch_size` says of heads of a width how
    many numbers one thread needs."""
    width = q.shape[3]
    q, k, v = whole_vectors(q, k, v)
    plan = Plan(q, k, **options)
    o = np.empty(q.shape, np.float32)
    lse = np.empty((q.shape[0], q.shape[2], q.shape[1]), np.float32)
    plan.arrays({Q: q, K: k, V: v, O: o, LSE: lse, BIAS: broadcast(bias, q, k)})
    plan.run(crew, scratch_size(q.shape[3]))
    return narrowed(o, width), lse


def backward_in_tiles(crew, scratch_size, given, options):
    """`attention_grad` by the compiled backward pass `crew`."""
    g, q, k, v, o, lse, bias, needs_bias = given
    width = q.shape[3]
    dbias = None
    if bias is not None and needs_bias:
        dbias = np.zeros(bias.shape, np.float32)
    g, q, k, v, o = whole_vectors(g, q, k, v, o)
    wide_dbias = broadcast(dbias, q, k)
    cuts = cuts_of(q, k, wide_dbias)
    new = np.empty if q.size else np.zeros  # nothing runs where there are no queries
    dq, dk, dv = (new(shape, np.float32) for shape in ((cuts[0], *q.shape), k.shape, v.shape))
    plan = Plan(q, k, **options)
    plan.arrays({Q: q, K: k, V: v, O: o, G: g, DQ: dq[0], DK: dk, DV: dv})
    plan.arrays({LSE: np.ascontiguousarray(lse), BIAS: broadcast(bias, q, k), DBIAS: wide_dbias})
    plan.write(CUTS, *cuts)
    plan.run(crew, scratch_size(q.shape[3]))
    dq = dq[0] if cuts[0] == 1 else dq.sum(axis=0)
    return narrowed(dq, width), narrowed(dk, width), narrowed(dv, width), dbias


class Plan:
    """What the compiled functions are told, and what has to live while they run."""

    def __init__(self, q, k, *, scale, causal, window, mask, first, dropout, key):
        keys, groups = k.shape[1:3]
        ahead = keys - q.shape[1]
        self._cells, self._alive = [0] * ((NUMBERS + 1) * COLUMNS), []
        self.write(SIZES, *q.shape, keys)
        lowest = -EVERYWHERE if window is None else ahead - int(window) + 1
        self.write(BAND, lowest, ahead if causal else EVERYWHERE, groups)
        self.arrays({NUMBERS: np.array([scale, 1 / (1 - dropout)], np.float32)})
        if dropout:
            chance = np.array([key, threshold(np, dropout)], np.uint64)
            self.write(CHANCE, *chance.view(np.int64).tolist())
        if mask is not None:
            visible = np.ascontiguousarray(mask)
            self.arrays({VISIBLE: visible, SPANS: _spans(visible)})
        if first is not None and first.size:
            bounds = np.ascontiguousarray(first, np.int64)
            self.arrays({FIRST: bounds, TILES: _tiles(bounds)})

    def write(self, row, *numbers):
        self._cells[row * COLUMNS : row * COLUMNS + len(numbers)] = numbers

    def arrays(self, arrays):
        """Where arrays lie, None for one that is not there."""
        for row, array in arrays.items():
            if array is not None:
                self._alive.append(array)
                self.write(row, address(array), *array.strides)

    def run(self, crew, scratch_size):
        if 0 in self._cells[SIZES * COLUMNS : (SIZES + 1) * COLUMNS]:
            return
        threads = numba.get_num_threads()
        room, counter = np.empty((threads, scratch_size), np.float32), np.zeros(1, np.int64)
        self.write(ROOM, address(room), room.strides[0], address(counter))
        crew(np.array(self._cells), threads)


def cuts_of(q, k, dbias):
    """See `attention_backward.backward_by`."""
    batch, (keys, groups) = q.shape[0], k.shape[1:3]
    shared = (False,) * 4 if dbias is None else tuple(stride == 0 for stride in dbias.strides)
    b_turns, g_turns = batch if shared[0] else 1, groups if shared[1] else 1
    owners = max(1, (batch // max(1, b_turns)) * (groups // max(1, g_turns)))
    parts = 1 if shared[3] else max(1, min(-(-PIECES // owners), keys // BLOCK))
    step = max(1, -(-keys // (parts * BLOCK))) * BLOCK
    return max(1, -(-keys // step)), step, b_turns, g_turns


def narrowed(array, width):
    return array if array.shape[3] == width else np.ascontiguousarray(array[..., :width])


def whole_vectors(*arrays: Any) -> list[Any]:
    """The arrays with contiguous heads of a multiple of 16 numbers, copied only where they are not
    so already."""
    width = arrays[0].shape[3]
    if width % WIDTH:
        return [_widened(array, width + -width % WIDTH) for array in arrays]
    return [
        array if array.strides[3] == 4 or array.size == 0 else np.ascontiguousarray(array)
        for array in arrays
    ]


def _widened(array, width):
    wide = np.zeros((*array.shape[:3], width), np.float32)
    wide[..., : array.shape[3]] = array
    return wide


def broadcast(bias, q, k):
    """`bias` seen as (B, H, T, S): stride 0 where it is broadcast."""
    if bias is None:
        return None
    shape = (q.shape[0], q.shape[2], q.shape[1], k.shape[1])
    wide = np.broadcast_to(bias, shape)
    strides = [0 if n == 1 else s for n, s in zip(wide.shape, wide.strides, strict=True)]
    return np.lib.stride_tricks.as_strided(wide, shape, strides)


def _tiles(first):
    """With which queries tiles begin and end, (B, tiles + 1): where the bound changes, and within
    the queries of one bound after each TILE. A sequence with fewer tiles ends with empty ones."""
    queries = np.arange(first.shape[1])
    changes = np.ones(first.shape, bool)
    changes[:, 1:] = first[:, 1:] != first[:, :-1]
    since = queries - np.maximum.accumulate(np.where(changes, queries, 0), axis=1)
    starts = since % TILE == 0
    found = np.full((len(first), starts.sum(axis=1).max() + 1), first.shape[1], np.int64)
    sequence, query = np.nonzero(starts)
    found[sequence, (starts.cumsum(axis=1) - 1)[starts]] = query
    return found


def _spans(visible):
    """Of each sequence, between which keys there are any that count."""
    some, keys = visible.any(axis=1), visible.shape[1]
    first, last = visible.argmax(axis=1), keys - visible[:, ::-1].argmax(axis=1)
    return np.stack([first, np.where(some, last, 0)], axis=1)
