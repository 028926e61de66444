"""The forward pass of attention for a few queries, as when text is generated token by token.

All queries of all heads that share keys are done together, so that every key is read once.
"""

import numpy as np

from entrenar_core.kernels.cpu.attention_tiles import (
    BAND,
    COLUMNS,
    CUTS,
    HIDDEN,
    LOWEST,
    LSE,
    NUMBERS,
    ROOM,
    SIZES,
    VISIBLE,
    K,
    O,
    Q,
    V,
    begin_of,
    keys_of,
    room_of,
)
from entrenar_core.kernels.cpu.compile import F, inner
from entrenar_core.kernels.cpu.crew import Crew
from entrenar_core.kernels.cpu.products import product
from entrenar_core.kernels.cpu.vector_loops import dot_with_rows, fill, scale_rows, soften_rows
from entrenar_core.kernels.cpu.vectors import (
    BYTES,
    WIDTH,
    apart,
    byte_at,
    carray,
    number_at,
    put_number,
    take,
)

FEW = 4
"""Up to so many queries this is faster than tiles."""

KEYS = 64
"""Keys at a time."""


def scratch_size(rows, width):
    """Numbers that one thread needs: a row of scores and one of outputs, and three numbers, for
    each query of each head of a group; and to lie at multiples of 64 bytes."""
    return rows * (KEYS + width) + 3 * (rows + WIDTH) + WIDTH


@inner
def _scores(plan, room, b, group, begin, count):
    """Rows of scores of all queries of a group with `count` keys."""
    time, columns = plan[SIZES, 1], plan[SIZES, 3] // WIDTH
    repeats = plan[SIZES, 2] // plan[BAND, 2]
    scale, k = number_at(plan[NUMBERS, 0]), begin_of(plan, K, b, begin, group)
    counts = plan[VISIBLE, 0] + b * plan[VISIBLE, 1] + begin
    for turn in range(repeats * time):
        h, t = group * repeats + turn // time, turn % time
        out = room + turn * 4 * KEYS
        dot_with_rows(begin_of(plan, Q, b, t, h), k, plan[K, 2], count, columns, out, scale)
        lowest, highest = t + plan[BAND, 0] - begin, t + plan[BAND, 1] - begin
        for r in range(count):
            hidden = r < lowest or r > highest
            if hidden or (plan[VISIBLE, 0] and not byte_at(counts + r)):
                put_number(out + 4 * r, HIDDEN)


@inner
def _group(plan, room, part, b, group):
    """What the keys of one part give to all queries of one group: sums, peaks and totals."""
    apart()
    time, width, repeats = plan[SIZES, 1], plan[SIZES, 3], plan[SIZES, 2] // plan[BAND, 2]
    rows, columns = repeats * time, width // WIDTH
    sums = room + rows * 4 * KEYS
    aligned = (4 * rows + BYTES - 1) // BYTES * BYTES
    peaks = sums + rows * 4 * width
    totals, factors = peaks + aligned, peaks + 2 * aligned
    fill(sums, 4 * width, rows, columns, F(0))
    fill(peaks, BYTES, aligned // BYTES, 1, LOWEST)
    fill(totals, BYTES, aligned // BYTES, 1, F(0))
    first, last = keys_of(plan, b, 0, time)
    first, last = max(first, part * plan[CUTS, 1]), min(last, (part + 1) * plan[CUTS, 1])
    for begin in range(first, last, KEYS):
        count = min(KEYS, last - begin)
        vectors = (count + WIDTH - 1) // WIDTH
        _scores(plan, room, b, group, begin, count)
        soften_rows(room, 4 * KEYS, rows, vectors, peaks, totals, factors)
        scale_rows(sums, 4 * width, rows, columns, factors)
        v = begin_of(plan, V, b, begin, group)
        product(room, 4 * KEYS, 4, v, plan[V, 2], sums, 4 * width, rows, columns, count, 1)
    for turn in range(rows):
        h, t = group * repeats + turn // time, turn % time
        o = begin_of(plan, O, part * plan[SIZES, 0] + b, t, h)
        lse = begin_of(plan, LSE, part * plan[SIZES, 0] + b, h, t)
        total = number_at(totals + 4 * turn)
        empty = total == F(0)
        peak = number_at(peaks + 4 * turn)
        nothing = F(np.inf) if plan[CUTS, 0] == 1 else HIDDEN
        put_number(lse, nothing if empty else peak + np.log(total))
        put_number(factors, F(1) / (F(1) if empty else total))
        scale_rows(sums + turn * 4 * width, 0, 1, columns, factors)
        for j in range(width):
            put_number(o + 4 * j, number_at(sums + turn * 4 * width + 4 * j))


def _work(pointer, thread):
    """Do groups until none is left. CUTS: how many parts of how many keys."""
    plan = carray(pointer, (NUMBERS + 1, COLUMNS))
    groups = plan[BAND, 2]
    owners = plan[SIZES, 0] * groups
    room, counter = room_of(plan, thread), plan[ROOM, 2]
    unit = take(counter)
    while unit < owners * plan[CUTS, 0]:
        part, owner = unit // owners, unit % owners
        _group(plan, room, part, owner // groups, owner % groups)
        unit = take(counter)


forward_few = Crew(_work)


def joined(o, lse):
    """Of o (parts, B, T, H, D) and lse (parts, B, H, T), −∞ for no key, what all parts give."""
    peak = np.maximum(lse.max(axis=0), LOWEST)
    weights = np.exp(lse - peak)
    total = weights.sum(axis=0)
    empty = total == 0
    share = weights / np.where(empty, F(1), total)
    whole = (o * share.transpose(0, 1, 3, 2)[..., None]).sum(axis=0)
    return whole, np.where(empty, F(np.inf), peak + np.log(np.where(empty, F(1), total)))
