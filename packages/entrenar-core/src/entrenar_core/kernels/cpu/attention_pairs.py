"""The passes of attention with products of bfloat16 numbers, by the processor's own instructions.

For a product, rows that are summed over become half as many rows of pairs, and rows along the axis
that is summed over rows of pairs, half as long (see `pair_rows`):

    scores     k: rows of pairs            q: columns of pairs
    dP         v: rows of pairs            g: columns of pairs
    o          weights: pairs of keys      v: pairs of keys
    dQ         dS: pairs of keys           k: pairs of keys
    dV, dK     weights, dS: rows of pairs  g, q: pairs of queries

What is of the keys is packed anew for each tile of queries, which takes a twentieth of the time of
a product.
"""

import numpy as np

from entrenar_core.kernels.cpu.attention_backward import BackwardSteps, backward_by
from entrenar_core.kernels.cpu.attention_backward import scratch_size as backward_room
from entrenar_core.kernels.cpu.attention_forward import (
    ForwardSteps,
    forward_by,
    raise_tile_peaks,
)
from entrenar_core.kernels.cpu.attention_forward import scratch_size as forward_room
from entrenar_core.kernels.cpu.attention_tiles import (
    BLOCK,
    CHANCE,
    COLUMNS,
    DK,
    DQ,
    DV,
    LSE,
    NUMBERS,
    ROW,
    SIZES,
    TILE,
    G,
    K,
    O,
    Q,
    V,
    adding_over_keys,
    adding_over_queries,
    begin_of,
    drop_out,
    inside,
    lanes,
    multiplying,
)
from entrenar_core.kernels.cpu.compile import F, inner
from entrenar_core.kernels.cpu.crew import Crew
from entrenar_core.kernels.cpu.pair_rows import (
    add_dots_of_pairs,
    divide_rows,
    multiply_each,
    pack_columns,
    pack_rows,
    pair_rows,
    remainders,
    scale_all,
    settle_peaks,
    soften_near,
    soften_to_pairs,
)
from entrenar_core.kernels.cpu.products import product_of_pairs
from entrenar_core.kernels.cpu.vector_loops import copy, fill, rescale
from entrenar_core.kernels.cpu.vectors import BYTES, WIDTH, apart, carray, number_at, put_number

_multiply = multiplying(product_of_pairs, 2)
_add_over_keys = adding_over_keys(product_of_pairs, 2)
_add_over_queries = adding_over_queries(product_of_pairs, 2)


def _even(width):
    """Numbers of a row that is packed."""
    return (width + 2 * WIDTH - 1) // (2 * WIDTH) * (2 * WIDTH)


_even_inside = inner(_even)


@inner
def _multiply_rows(rows_at, stride, width, packed, tile, keys, vectors, lowest, highest, near):
    """tile = rows · packed, with room at `near` for the rows as pairs."""
    row = 2 * _even_inside(width)
    pack_rows(rows_at, stride, keys, width // WIDTH, near, row)
    _multiply(near, row, width, packed, tile, keys, vectors, lowest, highest)


@inner
def _scale_tile(tile, keys, vectors, low, high, scale):
    group = keys if inside(keys, vectors, low, high) else WIDTH
    for first in range(0, keys, group):
        count = min(group, keys - first)
        start, stop = lanes(first, first + count, low, high, vectors)
        scale_all(tile + first * ROW + BYTES * start, ROW, count, stop - start, scale)


@inner
def _scores(plan, b, group, begin, packed, tile, keys, vectors, lowest, highest, own):
    apart()
    k, width = begin_of(plan, K, b, begin, group), plan[SIZES, 3]
    _multiply_rows(k, plan[K, 2], width, packed, tile, keys, vectors, lowest, highest, own)
    _scale_tile(tile, keys, vectors, lowest, highest, number_at(plan[NUMBERS, 0]))


# --- forwards ------------------------------------------------------------------------------------


def forward_scratch_size(width):
    """Numbers that one thread needs: what all forward passes do; keys or pairs of values, and the
    sum of the rounded weights of each query."""
    return forward_room(width) + BLOCK * _even(width) // 2 + TILE


@inner
def _near_totals_of(plan, own):
    """Where the sums of the rounded weights lie."""
    return own + 2 * BLOCK * _even_inside(plan[SIZES, 3])


@inner
def _enter(plan, b, h, low, rows, packed, own):
    apart()
    columns = plan[SIZES, 3] // WIDTH
    pack_columns(begin_of(plan, Q, b, low, h), plan[Q, 2], rows, columns, packed, ROW)
    fill(_near_totals_of(plan, own), ROW, 1, TILE // WIDTH, F(0))


@inner
def _soften_tile(plan, tile, keys, vectors, low, high, peaks, totals, factors, own):
    """Turn scores into exp(score − peak), rounded, with the peaks of all blocks so far next to a
    multiple of ln 2: into pairs, but where some are still to be dropped."""
    apart()
    near_totals = _near_totals_of(plan, own)
    copy(peaks, factors, vectors)
    raise_tile_peaks(tile, keys, vectors, low, high, peaks)
    settle_peaks(vectors, peaks)
    rescale(vectors, peaks, totals, factors)
    multiply_each(vectors, near_totals, factors)
    group = keys if inside(keys, vectors, low, high) else WIDTH
    for first in range(0, keys, group):
        count = min(group, keys - first)
        start, stop = lanes(first, first + count, low, high, vectors)
        shift = BYTES * start
        at, pairs_at = tile + first * ROW + shift, tile + first // 2 * ROW + shift
        own_peaks, own_totals, own_near = peaks + shift, totals + shift, near_totals + shift
        if plan[CHANCE, 1]:
            soften_near(at, ROW, count, stop - start, own_peaks, own_totals, own_near)
        else:
            soften_to_pairs(at, ROW, count, stop - start, own_peaks, own_totals, own_near, pairs_at)


@inner
def _drop(plan, tile, keys, vectors, lowest, highest, number):
    # the others are divided by 1 − dropout at the end: they stay as they were rounded
    drop_out(plan, tile, keys, vectors, lowest, highest, number, F(1))
    pair_rows(tile, ROW, keys, vectors, tile, ROW)


@inner
def _add_values(plan, b, group, begin, tile, sums, keys, rows, lowest, highest, own):
    apart()
    v, width = begin_of(plan, V, b, begin, group), plan[SIZES, 3]
    pair_rows(v, plan[V, 2], keys, width // WIDTH, own, 4 * width)
    _add_over_keys(tile, own, 4 * width, width, sums, 4 * width, keys, rows, lowest, highest)


@inner
def _finish(plan, b, h, low, rows, sums, peaks, totals, factors, own):
    """Write the sums divided by those of the rounded weights, and the log-sum-exps."""
    lse, near_totals = begin_of(plan, LSE, b, h, low), _near_totals_of(plan, own)
    for i in range(rows):
        total = number_at(totals + 4 * i)
        empty = total == F(0)
        put_number(lse + 4 * i, F(np.inf) if empty else number_at(peaks + 4 * i) + np.log(total))
        put_number(factors + 4 * i, F(1) if empty else number_at(near_totals + 4 * i))
    width, o = plan[SIZES, 3], begin_of(plan, O, b, low, h)
    factor = number_at(plan[NUMBERS, 0] + 4) if plan[CHANCE, 1] else F(1)
    divide_rows(sums, 4 * width, rows, width // WIDTH, factors, factor, o, plan[O, 2])


_forward = forward_by(ForwardSteps(_enter, _scores, _soften_tile, _drop, _add_values, _finish))


def _work_forward(pointer, thread):
    _forward(carray(pointer, (NUMBERS + 1, COLUMNS)), thread)


forward = Crew(_work_forward)


# --- backwards -----------------------------------------------------------------------------------


def backward_scratch_size(width):
    """Numbers that one thread needs: what all backward passes do; keys or values, pairs of keys,
    pairs of queries and of gradients, what rounding left of the outputs, weights and gradients of
    scores, and pairs of these."""
    even = _even(width)
    of_keys = BLOCK * (even // 2 + width // 2)
    of_queries = 2 * TILE * width
    return backward_room(width) + of_keys + of_queries + 3 * BLOCK * TILE // 2


@inner
def _places(plan, own):
    """Where lie: pairs of queries, pairs of gradients, what rounding left of the outputs; pairs of
    keys; weights and gradients of scores as rows, and the latter as pairs.
    At `own` are keys or values as rows."""
    width = plan[SIZES, 3]
    even, tile = _even_inside(width), 2 * BLOCK * TILE
    q = own + 2 * BLOCK * even
    g = q + 2 * TILE * width
    rest = g + 2 * TILE * width
    k = rest + 4 * TILE * width
    weights = k + 2 * BLOCK * width
    return q, g, rest, k, weights, weights + tile, weights + 2 * tile


@inner
def _enter_backward(plan, b, h, low, rows, packed, dots, own):
    apart()
    width = plan[SIZES, 3]
    vectors, columns, each = (rows + WIDTH - 1) // WIDTH, width // WIDTH, 4 * TILE * width
    near_q, near_g, rest, _, _, _, _ = _places(plan, own)
    q, g = begin_of(plan, Q, b, low, h), begin_of(plan, G, b, low, h)
    o = begin_of(plan, O, b, low, h)
    packed_g, packed_o = packed + each, packed + 2 * each
    pack_columns(q, plan[Q, 2], rows, columns, packed, ROW)
    pack_columns(g, plan[G, 2], rows, columns, packed_g, ROW)
    pair_rows(q, plan[Q, 2], rows, columns, near_q, 4 * width)
    pair_rows(g, plan[G, 2], rows, columns, near_g, 4 * width)
    # in the order of the product below, so that one key alone, whose o is of bfloat16 numbers, has
    # a gradient of exactly 0; three of them hold all digits of a float32
    row = plan[O, 2]
    for part in range(3):
        pack_columns(o, row, rows, columns, packed_o, ROW)
        add_dots_of_pairs(packed_g, packed_o, ROW, width // 2, vectors, dots)
        if part < 2:
            remainders(o, row, rows, columns, rest, 4 * width)
            o, row = rest, 4 * width


@inner
def _slopes(plan, b, group, begin, packed, tile, keys, vectors, lowest, highest, own):
    v, width = begin_of(plan, V, b, begin, group), plan[SIZES, 3]
    packed_g = packed + 4 * TILE * width
    _multiply_rows(v, plan[V, 2], width, packed_g, tile, keys, vectors, lowest, highest, own)


@inner
def _add(plan, b, group, begin, _q, _g, used, dtile, dq, keys, rows, lowest, highest, own):
    apart()
    width, vectors = plan[SIZES, 3], (rows + WIDTH - 1) // WIDTH
    q, g, _, k, weights, slopes, slope_pairs = _places(plan, own)
    dk, dv = begin_of(plan, DK, b, begin, group), begin_of(plan, DV, b, begin, group)
    pack_rows(used, ROW, keys, vectors, weights, ROW // 2)
    _add_over_queries(weights, g, 4 * width, width, dv, plan[DV, 2], keys, rows, lowest, highest)
    pack_rows(dtile, ROW, keys, vectors, slopes, ROW // 2)
    _add_over_queries(slopes, q, 4 * width, width, dk, plan[DK, 2], keys, rows, lowest, highest)
    pair_rows(dtile, ROW, keys, vectors, slope_pairs, ROW)
    k_at, dq_row = begin_of(plan, K, b, begin, group), plan[DQ, 2]
    pair_rows(k_at, plan[K, 2], keys, width // WIDTH, k, 4 * width)
    _add_over_keys(slope_pairs, k, 4 * width, width, dq, dq_row, keys, rows, lowest, highest)


_backward = backward_by(BackwardSteps(_enter_backward, _scores, _slopes, _add))


def _work_backward(pointer, thread):
    _backward(carray(pointer, (NUMBERS + 1, COLUMNS)), thread)


backward = Crew(_work_backward)
