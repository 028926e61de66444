"""The forward pass of attention: a softmax whose peak is corrected from block to block of keys.

Source: Milakov and Gimelshein 2018, arXiv:1805.02867; Dao et al. 2022, arXiv:2205.14135.
"""

from typing import Any, NamedTuple

import numpy as np

from entrenar_core.kernels.cpu.attention_tiles import (
    BAND,
    BIAS,
    BLOCK,
    CHANCE,
    COLUMNS,
    LOWEST,
    LSE,
    NUMBERS,
    ROOM,
    ROW,
    SIZES,
    TILE,
    VISIBLE,
    K,
    O,
    Q,
    V,
    add_bias,
    adding_over_keys,
    begin_of,
    drop_out,
    hide,
    inside,
    keys_of,
    lanes,
    multiplying,
    pack,
    room_of,
    tile_of,
    tiles_of,
)
from entrenar_core.kernels.cpu.compile import F, inner
from entrenar_core.kernels.cpu.crew import Crew
from entrenar_core.kernels.cpu.products import product
from entrenar_core.kernels.cpu.vector_loops import (
    copy,
    copy_rows,
    fill,
    raise_peaks,
    rescale,
    scale_rows,
    soften,
)
from entrenar_core.kernels.cpu.vectors import (
    BYTES,
    WIDTH,
    apart,
    carray,
    number_at,
    put_number,
    take,
)


def scratch_size(width):
    """Numbers that one thread needs: packed queries, outputs, a tile, its peaks, sums and factors,
    room for the bias, and for the first one to lie at a multiple of 64 bytes."""
    return TILE * (2 * width + BLOCK + 3) + WIDTH * WIDTH + WIDTH


@inner
def raise_tile_peaks(tile, keys, vectors, low, high, peaks):
    """Let `peaks` be the highest score that each query has seen so far."""
    group = keys if inside(keys, vectors, low, high) else WIDTH
    for first in range(0, keys, group):
        count = min(group, keys - first)
        start, stop = lanes(first, first + count, low, high, vectors)
        at, shift = tile + first * ROW, BYTES * start
        raise_peaks(at + shift, ROW, count, stop - start, peaks + shift)


@inner
def _soften_tile(_plan, tile, keys, vectors, low, high, peaks, totals, factors, _own):
    """Turn scores into exp(score − peak) with the peaks of all blocks so far."""
    apart()
    copy(peaks, factors, vectors)
    raise_tile_peaks(tile, keys, vectors, low, high, peaks)
    rescale(vectors, peaks, totals, factors)
    group = keys if inside(keys, vectors, low, high) else WIDTH
    for first in range(0, keys, group):
        count = min(group, keys - first)
        start, stop = lanes(first, first + count, low, high, vectors)
        at, shift = tile + first * ROW, BYTES * start
        soften(at + shift, ROW, count, stop - start, peaks + shift, totals + shift)


@inner
def _finish(plan, b, h, low, rows, sums, peaks, totals, factors, _own):
    """Write the sums divided by the totals, and the log-sum-exps."""
    lse, width = begin_of(plan, LSE, b, h, low), plan[SIZES, 3]
    for i in range(rows):
        total = number_at(totals + 4 * i)
        empty = total == F(0)
        found = F(np.inf) if empty else number_at(peaks + 4 * i) + np.log(total)
        put_number(lse + 4 * i, found)
        put_number(factors + 4 * i, F(1) / (F(1) if empty else total))
    scale_rows(sums, 4 * width, rows, width // WIDTH, factors)
    copy_rows(sums, 4 * width, begin_of(plan, O, b, low, h), plan[O, 2], rows, width // WIDTH)


class ForwardSteps(NamedTuple):
    """The steps of the forward pass that depend on how numbers are multiplied, as compiled
    functions. `own` is the address of the memory that they have for themselves."""

    enter: Any
    """(plan, b, h, low, rows, packed, own): pack the queries of a tile."""
    scores: Any
    """(plan, b, group, begin, packed, tile, keys, vectors, lowest, highest, own)"""
    soften: Any
    """(plan, tile, keys, vectors, lowest, highest, peaks, totals, factors, own): turn scores into
    weights."""
    drop: Any
    """(plan, tile, keys, vectors, lowest, highest, number)"""
    add_values: Any
    """(plan, b, group, begin, tile, sums, keys, rows, lowest, highest, own)"""
    finish: Any
    """(plan, b, h, low, rows, sums, peaks, totals, factors, own): write the results."""


def forward_by(steps: ForwardSteps) -> Any:
    """What a thread does: (plan, thread), tiles until none is left."""
    enter, scores, soften_tile, drop, add_values, finish = steps

    @inner
    def tile_forward(plan, room, b, h, low, rows):
        """o and lse of the queries of one tile: `rows` of them from `low` on."""
        apart()
        time, heads, width, keys = plan[SIZES, 1], plan[SIZES, 2], plan[SIZES, 3], plan[SIZES, 4]
        group = h // (heads // plan[BAND, 2])
        vectors, columns = (rows + WIDTH - 1) // WIDTH, width // WIDTH
        # o is summed where its rows lie together: those of one head of many share few cache sets
        sums, row = room + 4 * TILE * width, 4 * width  # the packed queries come first
        tile = sums + 4 * TILE * width
        peaks = tile + 4 * TILE * BLOCK
        totals, factors, spare = peaks + ROW, peaks + 2 * ROW, peaks + 3 * ROW
        own = spare + 4 * WIDTH * WIDTH
        fill(sums, row, rows, columns, F(0))
        fill(peaks, ROW, 1, vectors, LOWEST)
        fill(totals, ROW, 1, vectors, F(0))
        enter(plan, b, h, low, rows, room, own)
        first, last = keys_of(plan, b, low, rows)
        for begin in range(first, last, BLOCK):
            count = min(BLOCK, last - begin)
            lowest, highest = low + plan[BAND, 0] - begin, low + plan[BAND, 1] - begin
            scores(plan, b, group, begin, room, tile, count, vectors, lowest, highest, own)
            if plan[BIAS, 0]:
                add_bias(plan, tile, b, h, low, begin, count, rows, spare)
            counts = plan[VISIBLE, 0] + b * plan[VISIBLE, 1] + begin if plan[VISIBLE, 0] else 0
            hide(tile, count, vectors, lowest, highest, counts)
            soften_tile(plan, tile, count, vectors, lowest, highest, peaks, totals, factors, own)
            scale_rows(sums, row, rows, columns, factors)
            if plan[CHANCE, 1]:
                number = ((b * heads + h) * time + low) * keys + begin
                drop(plan, tile, count, vectors, lowest, highest, number)
            add_values(plan, b, group, begin, tile, sums, count, rows, lowest, highest, own)
        finish(plan, b, h, low, rows, sums, peaks, totals, factors, own)

    @inner
    def work(plan, thread):
        batch, heads, tiles = plan[SIZES, 0], plan[SIZES, 2], tiles_of(plan)
        room, counter = room_of(plan, thread), plan[ROOM, 2]
        unit = take(counter)
        while unit < batch * heads * tiles:
            # of each head the last tile, which may see the most keys, comes first
            head, number = unit // tiles, tiles - 1 - unit % tiles
            low, rows = tile_of(plan, head // heads, number)
            if rows:
                tile_forward(plan, room, head // heads, head % heads, low, rows)
            unit = take(counter)

    return work


_multiply = multiplying(product, 1)
_add_over_keys = adding_over_keys(product, 1)


@inner
def _enter(plan, b, h, low, rows, packed, _own):
    scale = number_at(plan[NUMBERS, 0])
    pack(begin_of(plan, Q, b, low, h), plan[Q, 2], rows, plan[SIZES, 3] // WIDTH, packed, scale)


@inner
def _scores(plan, b, group, begin, packed, tile, keys, vectors, lowest, highest, _own):
    k = begin_of(plan, K, b, begin, group)
    _multiply(k, plan[K, 2], plan[SIZES, 3], packed, tile, keys, vectors, lowest, highest)


@inner
def _drop(plan, tile, keys, vectors, lowest, highest, number):
    factor = number_at(plan[NUMBERS, 0] + 4)
    drop_out(plan, tile, keys, vectors, lowest, highest, number, factor)


@inner
def _add_values(plan, b, group, begin, tile, sums, keys, rows, lowest, highest, _own):
    v, width = begin_of(plan, V, b, begin, group), plan[SIZES, 3]
    _add_over_keys(tile, v, plan[V, 2], width, sums, 4 * width, keys, rows, lowest, highest)


_do = forward_by(ForwardSteps(_enter, _scores, _soften_tile, _drop, _add_values, _finish))


def _work(pointer, thread):
    _do(carray(pointer, (NUMBERS + 1, COLUMNS)), thread)


forward = Crew(_work)
