"""What the forward and the backward pass of attention do with one tile of scores.

A tile holds the scores of up to TILE queries of one head with up to BLOCK keys. It lies transposed,
keys in rows and queries along the vectors: then the products read keys, values and gradients as
they are in memory, and the sums of a softmax run from row to row.

Key r of a block is seen by query i of a tile where i + low ≤ r ≤ i + high. Keys are taken in groups
of 16, and of each group the vectors of queries are computed that see any of its keys.

Where queries have a first key of their own, a tile ends where it changes: all of a tile have the
same, and its keys are taken from there on. A row of documents then takes as long as they take by
themselves, and gives the same bits.
"""

from typing import Any

import numpy as np

from entrenar_core.kernels.cpu.compile import F, inner
from entrenar_core.kernels.cpu.vector_loops import add_rows, drop, fill, keep_band, transpose
from entrenar_core.kernels.cpu.vectors import (
    BYTES,
    WIDTH,
    apart,
    byte_at,
    integer_at,
    number_at,
    put_number,
)

TILE = 64
"""Queries."""

BLOCK = 64
"""Keys: with 64 queries, 16 KiB of scores, half of a first-level cache."""

ROW = 4 * TILE
"""Bytes from one key's scores to the next one's."""

EVERYWHERE = 1 << 40
"""An end of the band that is no end."""

HIDDEN = F(-np.inf)

LOWEST = np.finfo(np.float32).min
"""A peak below all scores, but finite: what −∞ is to it is still −∞."""

(
    Q, K, V, O, G, DQ, DK, DV, BIAS, DBIAS, LSE, VISIBLE, SPANS, FIRST, TILES, SIZES, BAND, CHANCE,
    CUTS, ROOM, NUMBERS,
) = range(21)  # fmt: skip
"""Rows of a plan. An address is 0 where there is no such array.

Q to DV: where an array (B, T, H, D) begins, and its strides in bytes along B, T and H; BIAS and
DBIAS: the same of (B, H, T, S), LSE: of (B, H, T), VISIBLE: of (B, S) bytes. SPANS: the address of
two integers for each sequence, between which keys it has any that count. FIRST: the address of an
integer (B, T) for each query, before which it sees no key; TILES: with FIRST, the address of the
queries (B, count + 1) with which tiles begin and end, and the bytes of a sequence. SIZES: B, T, H,
D, S.
BAND: query t sees keys t + lowest to t + highest; and G. CHANCE: key and threshold of the dropout.
CUTS: see `attention_backward`. ROOM: the address of memory, how much each thread has of it, and the
address of a counter. NUMBERS: the address of the scale and of 1 / (1 − dropout).
"""

COLUMNS = 5


@inner
def begin_of(plan, row, b, t, h):
    """The address of position t of head h of sequence b."""
    return plan[row, 0] + b * plan[row, 1] + t * plan[row, 2] + h * plan[row, 3]


@inner
def room_of(plan, thread):
    """The memory of a thread, from a multiple of 64 bytes on."""
    return (plan[ROOM, 0] + thread * plan[ROOM, 1] + BYTES - 1) // BYTES * BYTES


@inner
def keys_of(plan, b, low, rows):
    """Between which keys those lie that queries low..low+rows−1 of sequence b see."""
    first, last = low + plan[BAND, 0], low + rows + plan[BAND, 1]
    if plan[FIRST, 0]:
        first = max(first, integer_at(plan[FIRST, 0] + b * plan[FIRST, 1] + 8 * low))
    span = plan[SPANS, 0] + 16 * b
    if plan[SPANS, 0]:
        return max(first, integer_at(span)), min(last, integer_at(span + 8))
    return max(first, 0), min(last, plan[SIZES, 4])


@inner
def tiles_of(plan):
    """How many tiles the queries of a sequence are cut into, empty ones included."""
    return plan[TILES, 1] // 8 - 1 if plan[TILES, 0] else (plan[SIZES, 1] + TILE - 1) // TILE


@inner
def tile_of(plan, b, number):
    """With which query of sequence b a tile begins, and how many queries it has."""
    if plan[TILES, 0]:
        at = plan[TILES, 0] + b * plan[TILES, 1] + 8 * number
        return integer_at(at), integer_at(at + 8) - integer_at(at)
    return number * TILE, min(TILE, plan[SIZES, 1] - number * TILE)


@inner
def inside(keys, vectors, low, high):
    """Whether every query sees every key."""
    return keys - 1 <= high and vectors * WIDTH - 1 + low <= 0


@inner
def lanes(first, last, low, high, vectors):
    """Vectors of queries that see any of the keys first..last−1: from and to."""
    start = min(max(0, first - high) // WIDTH, vectors)
    stop = min((max(0, last - low) + WIDTH - 1) // WIDTH, vectors)
    return start, max(start, stop)


@inner
def pack(source, stride, rows, vectors, target, scale):
    """Write `rows` ≤ TILE rows at `source` as columns to `target`, times `scale`, and zeros in the
    columns up to a whole vector. `vectors` is how many a row of the source has."""
    apart()
    for i in range(0, rows, WIDTH):
        for j in range(vectors):
            transpose(
                source + i * stride + j * BYTES, stride, rows - i,
                target + j * WIDTH * ROW + 4 * i, ROW, scale,
            )  # fmt: skip


# Products with a tile, by `product`, which takes `together` neighbours along the axis that is
# summed over as one number of 4 bytes: rows of an operand that are summed over are then as many
# fewer, and rows along that axis as much shorter.


def multiplying(product: Any, together: int) -> Any:
    @inner
    def multiply(rows_at, stride, width, packed, tile, keys, vectors, low, high):
        """tile (keys, queries) = rows (keys, width) · packed (width, queries)."""
        apart()
        steps = width // together
        if inside(keys, vectors, low, high):
            product(rows_at, stride, 4, packed, ROW, tile, ROW, keys, vectors, steps, 0)
            return
        for first in range(0, keys, WIDTH):
            count = min(WIDTH, keys - first)
            start, stop = lanes(first, first + count, low, high, vectors)
            product(
                rows_at + first * stride, stride, 4, packed + BYTES * start, ROW,
                tile + first * ROW + BYTES * start, ROW, count, stop - start, steps, 0,
            )  # fmt: skip

    return multiply


def adding_over_keys(product: Any, together: int) -> Any:
    @inner
    def add_over_keys(tile, rows_at, stride, width, out, out_row, keys, rows, low, high):
        """out (queries, width) += tileᵀ · rows (keys, width)."""
        apart()
        columns = width // WIDTH
        if inside(keys, (rows + WIDTH - 1) // WIDTH, low, high):
            steps = (keys + together - 1) // together
            product(tile, 4, ROW, rows_at, stride, out, out_row, rows, columns, steps, 1)
            return
        for i in range(0, rows, WIDTH):
            count = min(WIDTH, rows - i)
            first = max(0, i + low) // together
            last = (min(keys, i + count + high) + together - 1) // together
            if first < last:
                product(
                    tile + first * ROW + 4 * i, 4, ROW, rows_at + first * stride, stride,
                    out + i * out_row, out_row, count, columns, last - first, 1,
                )  # fmt: skip

    return add_over_keys


def adding_over_queries(product: Any, together: int) -> Any:
    @inner
    def add_over_queries(tile, rows_at, stride, width, out, out_row, keys, rows, low, high):
        """out (keys, width) += tile · rows (queries, width)."""
        apart()
        columns, vectors = width // WIDTH, (rows + WIDTH - 1) // WIDTH
        row = ROW // together
        if inside(keys, vectors, low, high):
            steps = (rows + together - 1) // together
            product(tile, row, 4, rows_at, stride, out, out_row, keys, columns, steps, 1)
            return
        for first in range(0, keys, WIDTH):
            count = min(WIDTH, keys - first)
            start, stop = lanes(first, first + count, low, high, vectors)
            start = start * WIDTH // together
            stop = (min(stop * WIDTH, rows) + together - 1) // together
            if start < stop:
                product(
                    tile + first * row + 4 * start, row, 4, rows_at + start * stride, stride,
                    out + first * out_row, out_row, count, columns, stop - start, 1,
                )  # fmt: skip

    return add_over_queries


@inner
def hide(tile, keys, vectors, low, high, counts):
    """−∞ for the keys that a query does not see; `counts` is the address of
    bytes that say which keys count at all, or 0."""
    apart()
    if not inside(keys, vectors, low, high):
        for first in range(0, keys, WIDTH):
            count = min(WIDTH, keys - first)
            start, stop = lanes(first, first + count, low, high, vectors)
            shift = start * WIDTH - first
            keep_band(
                tile + first * ROW + BYTES * start, ROW, count, stop - start, low + shift,
                high + shift,
            )  # fmt: skip
    if counts:
        for r in range(keys):
            if not byte_at(counts + r):
                fill(tile + r * ROW, ROW, 1, vectors, HIDDEN)


@inner
def drop_out(plan, tile, keys, vectors, low, high, number, factor):
    """Multiply the weights that are kept by `factor`, and the others by 0. Key 0 of query 0 has the
    counter `number`."""
    apart()
    step = plan[SIZES, 4]
    key, threshold = np.uint64(plan[CHANCE, 0]), np.uint64(plan[CHANCE, 1])
    for first in range(0, keys, WIDTH):
        count = min(WIDTH, keys - first)
        start, stop = lanes(first, first + count, low, high, vectors)
        drop(
            tile + first * ROW + BYTES * start, ROW, count, stop - start,
            number + first + start * WIDTH * step, step, key, threshold, factor,
        )  # fmt: skip


@inner
def add_bias(plan, tile, b, h, low, begin, keys, rows, spare):
    """Add to the scores of `rows` queries from `low` on with `keys` keys from `begin` on their
    bias; `spare` has room for 16 × 16 numbers."""
    apart()
    stride_t, stride_s = plan[BIAS, 3], plan[BIAS, 4]
    bias = begin_of(plan, BIAS, b, h, low) + begin * stride_s
    for first in range(0, keys, WIDTH):
        count = min(WIDTH, keys - first)
        for i in range(0, rows, WIDTH):
            corner = bias + i * stride_t + first * stride_s
            target = tile + first * ROW + 4 * i
            if stride_s == 4 and count == WIDTH:
                transpose(corner, stride_t, rows - i, spare, BYTES, F(1))
                add_rows(spare, BYTES, target, ROW, WIDTH, 1)
            else:
                for j in range(min(WIDTH, rows - i)):
                    for r in range(count):
                        cell = target + r * ROW + 4 * j
                        value = number_at(corner + j * stride_t + r * stride_s)
                        put_number(cell, number_at(cell) + value)


@inner
def add_to_bias(plan, tile, b, h, low, begin, keys, rows, lowest, highest, spare):
    """Add the scores' gradients, where they were computed, to the bias's."""
    apart()
    stride_t, stride_s = plan[DBIAS, 3], plan[DBIAS, 4]
    dbias = begin_of(plan, DBIAS, b, h, low) + begin * stride_s
    vectors = (rows + WIDTH - 1) // WIDTH
    for first in range(0, keys, WIDTH):
        count = min(WIDTH, keys - first)
        start, stop = lanes(first, first + count, lowest, highest, vectors)
        for i in range(start * WIDTH, min(stop * WIDTH, rows), WIDTH):
            corner = dbias + i * stride_t + first * stride_s
            source = tile + first * ROW + 4 * i
            if stride_s == 4 and stride_t != 0 and count == WIDTH:
                transpose(source, ROW, WIDTH, spare, BYTES, F(1))
                add_rows(spare, BYTES, corner, stride_t, min(WIDTH, rows - i), 1)
            else:
                for j in range(min(WIDTH, rows - i)):
                    for r in range(count):
                        cell = corner + j * stride_t + r * stride_s
                        put_number(cell, number_at(cell) + number_at(source + r * ROW + 4 * j))
