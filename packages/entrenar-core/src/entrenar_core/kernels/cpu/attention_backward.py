"""The backward pass of attention, with the weights recomputed from the log-sum-exp.

Source: Dao et al. 2022, arXiv:2205.14135, appendix B.
"""

from typing import Any, NamedTuple

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
    LSE,
    NUMBERS,
    ROOM,
    ROW,
    SIZES,
    TILE,
    VISIBLE,
    G,
    K,
    O,
    Q,
    V,
    add_bias,
    add_to_bias,
    adding_over_keys,
    adding_over_queries,
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
    differentiate,
    dot_columns,
    fill,
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
    """Numbers that one thread needs: packed queries, gradients and outputs, two tiles and one for
    dropout, four numbers for each query, room for the bias, and for the first to lie at a multiple
    of 64 bytes."""
    return TILE * (3 * width + 3 * BLOCK + 4) + WIDTH * WIDTH + WIDTH


@inner
def _weigh_tile(tile, keys, vectors, low, high, lse, ignored):
    """Turn scores into weights."""
    group = keys if inside(keys, vectors, low, high) else WIDTH
    for first in range(0, keys, group):
        count = min(group, keys - first)
        start, stop = lanes(first, first + count, low, high, vectors)
        at, shift = tile + first * ROW, BYTES * start
        soften(at + shift, ROW, count, stop - start, lse + shift, ignored)


@inner
def _differentiate_tile(weights, dtile, keys, vectors, low, high, dots):
    """Turn the gradients of the weights into those of the scores."""
    group = keys if inside(keys, vectors, low, high) else WIDTH
    for first in range(0, keys, group):
        count = min(group, keys - first)
        start, stop = lanes(first, first + count, low, high, vectors)
        at, shift = first * ROW, BYTES * start
        differentiate(
            weights + at + shift, dtile + at + shift, ROW, count, stop - start, dots + shift
        )


class BackwardSteps(NamedTuple):
    """The steps of the backward pass that depend on how numbers are multiplied, as compiled
    functions. `packed` is the address of room for packed queries, gradients and outputs, and `own`
    of the memory that these functions have for themselves."""

    enter: Any
    """(plan, b, h, low, rows, packed, dots, own): pack what belongs to the queries of a tile, and
    write the products of their gradients with their outputs to `dots`."""
    scores: Any
    """(plan, b, group, begin, packed, tile, keys, vectors, lowest, highest, own)"""
    slopes: Any
    """The same for the gradients of the weights."""
    add: Any
    """(plan, b, group, begin, q, g, used, dtile, dq, keys, rows, lowest, highest, own): add to dv,
    dk and dq what the weights and the scores' gradients of a tile give."""


def _tiles_by(steps: BackwardSteps) -> Any:
    enter, scores, slopes, add = steps

    @inner
    def tile_backward(plan, room, part, first, last, b, h, number):
        """dq of the queries of one tile, and what they add to dk, dv and dbias, by the keys
        first..last−1. dk is left to be scaled."""
        apart()
        batch, time, heads, width, keys = (
            plan[SIZES, 0], plan[SIZES, 1], plan[SIZES, 2], plan[SIZES, 3], plan[SIZES, 4],
        )  # fmt: skip
        group = h // (heads // plan[BAND, 2])
        low, rows = tile_of(plan, b, number)
        vectors, columns = (rows + WIDTH - 1) // WIDTH, width // WIDTH
        weights = room + 3 * 4 * TILE * width  # what is packed comes first
        dtile = weights + 4 * TILE * BLOCK
        dropped = dtile + 4 * TILE * BLOCK
        totals = dropped + 4 * TILE * BLOCK
        dots, ignored, factors = totals + ROW, totals + 2 * ROW, totals + 3 * ROW
        spare = totals + 4 * ROW
        own = spare + 4 * WIDTH * WIDTH
        q, g = begin_of(plan, Q, b, low, h), begin_of(plan, G, b, low, h)
        dq = begin_of(plan, DQ, part * batch + b, low, h)
        fill(dq, plan[DQ, 2], rows, columns, F(0))
        seen_first, seen_last = keys_of(plan, b, low, rows)
        first, last = max(first, seen_first), min(last, seen_last)
        if rows == 0 or first >= last:
            return
        scale, lse = number_at(plan[NUMBERS, 0]), begin_of(plan, LSE, b, h, low)
        fill(totals, ROW, 4, vectors, F(0))
        for i in range(rows):
            put_number(totals + 4 * i, number_at(lse + 4 * i))
            put_number(factors + 4 * i, scale)
        enter(plan, b, h, low, rows, room, dots, own)
        for begin in range(first, last, BLOCK):
            count = min(BLOCK, last - begin)
            lowest, highest = low + plan[BAND, 0] - begin, low + plan[BAND, 1] - begin
            scores(plan, b, group, begin, room, weights, count, vectors, lowest, highest, own)
            if plan[BIAS, 0]:
                add_bias(plan, weights, b, h, low, begin, count, rows, spare)
            counts = plan[VISIBLE, 0] + b * plan[VISIBLE, 1] + begin if plan[VISIBLE, 0] else 0
            hide(weights, count, vectors, lowest, highest, counts)
            _weigh_tile(weights, count, vectors, lowest, highest, totals, ignored)
            slopes(plan, b, group, begin, room, dtile, count, vectors, lowest, highest, own)
            used = weights
            if plan[CHANCE, 1]:
                number, kept = ((b * heads + h) * time + low) * keys + begin, plan[NUMBERS, 0] + 4
                used = dropped
                copy(weights, used, TILE * BLOCK // WIDTH)
                for at in (used, dtile):
                    drop_out(plan, at, count, vectors, lowest, highest, number, number_at(kept))
            _differentiate_tile(weights, dtile, count, vectors, lowest, highest, dots)
            if plan[DBIAS, 0]:
                add_to_bias(plan, dtile, b, h, low, begin, count, rows, lowest, highest, spare)
            add(plan, b, group, begin, q, g, used, dtile, dq, count, rows, lowest, highest, own)
        scale_rows(dq, plan[DQ, 2], rows, columns, factors)

    return tile_backward


def backward_by(steps: BackwardSteps) -> Any:
    """What a thread does: (plan, thread), pieces until none is left.

    CUTS: into how many parts of how many keys the keys are cut, each with its own dq; and how many
    sequences and groups of heads are done one after the other by one thread, because they add to
    the same numbers of the bias's gradient.
    """
    tile_backward = _tiles_by(steps)

    @inner
    def keys_backward(plan, room, part, b, group):
        """All that depends on one part of the keys of one group of one sequence."""
        columns, repeats = plan[SIZES, 3] // WIDTH, plan[SIZES, 2] // plan[BAND, 2]
        first = part * plan[CUTS, 1]
        last = min(first + plan[CUTS, 1], plan[SIZES, 4])
        dk, dv = begin_of(plan, DK, b, first, group), begin_of(plan, DV, b, first, group)
        fill(dk, plan[DK, 2], last - first, columns, F(0))
        fill(dv, plan[DV, 2], last - first, columns, F(0))
        for turn in range(repeats):
            for number in range(tiles_of(plan)):
                tile_backward(plan, room, part, first, last, b, group * repeats + turn, number)
        for s in range(last - first):
            scale_rows(dk + s * plan[DK, 2], 0, 1, columns, plan[NUMBERS, 0])

    @inner
    def work(plan, thread):
        parts, b_turns, g_turns = plan[CUTS, 0], plan[CUTS, 2], plan[CUTS, 3]
        g_owners = plan[BAND, 2] // g_turns
        owners = plan[SIZES, 0] // b_turns * g_owners
        room, counter = room_of(plan, thread), plan[ROOM, 2]
        unit = take(counter)
        while unit < owners * parts:
            # the first keys are seen by the most queries, so they come first
            part, owner = unit // owners, unit % owners
            for turn in range(b_turns * g_turns):
                b = owner // g_owners * b_turns + turn // g_turns
                keys_backward(plan, room, part, b, owner % g_owners * g_turns + turn % g_turns)
            unit = take(counter)

    return work


_multiply = multiplying(product, 1)
_add_over_keys = adding_over_keys(product, 1)
_add_over_queries = adding_over_queries(product, 1)


@inner
def _enter(plan, b, h, low, rows, packed, dots, _own):
    width = plan[SIZES, 3]
    columns, each = width // WIDTH, 4 * TILE * width
    scale = number_at(plan[NUMBERS, 0])
    pack(begin_of(plan, Q, b, low, h), plan[Q, 2], rows, columns, packed, scale)
    pack(begin_of(plan, G, b, low, h), plan[G, 2], rows, columns, packed + each, F(1))
    # in the order of the product below, so that one key alone has a gradient of exactly 0
    pack(begin_of(plan, O, b, low, h), plan[O, 2], rows, columns, packed + 2 * each, F(1))
    vectors = (rows + WIDTH - 1) // WIDTH
    dot_columns(packed + each, packed + 2 * each, ROW, width, vectors, dots)


@inner
def _scores(plan, b, group, begin, packed, tile, keys, vectors, lowest, highest, _own):
    k, width = begin_of(plan, K, b, begin, group), plan[SIZES, 3]
    _multiply(k, plan[K, 2], width, packed, tile, keys, vectors, lowest, highest)


@inner
def _slopes(plan, b, group, begin, packed, tile, keys, vectors, lowest, highest, _own):
    v, width = begin_of(plan, V, b, begin, group), plan[SIZES, 3]
    packed_g = packed + 4 * TILE * width
    _multiply(v, plan[V, 2], width, packed_g, tile, keys, vectors, lowest, highest)


@inner
def _add(plan, b, group, begin, q, g, used, dtile, dq, keys, rows, lowest, highest, _own):
    width = plan[SIZES, 3]
    dk, dv = begin_of(plan, DK, b, begin, group), begin_of(plan, DV, b, begin, group)
    k, dq_row = begin_of(plan, K, b, begin, group), plan[DQ, 2]
    _add_over_queries(used, g, plan[G, 2], width, dv, plan[DV, 2], keys, rows, lowest, highest)
    _add_over_queries(dtile, q, plan[Q, 2], width, dk, plan[DK, 2], keys, rows, lowest, highest)
    _add_over_keys(dtile, k, plan[K, 2], width, dq, dq_row, keys, rows, lowest, highest)


_do = backward_by(BackwardSteps(_enter, _scores, _slopes, _add))


def _work(pointer, thread):
    _do(carray(pointer, (NUMBERS + 1, COLUMNS)), thread)


backward = Crew(_work)
