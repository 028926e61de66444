"""Which elements are kept, and what has to be counted to know it: float32 rows (n, size)."""

from entrenar_core.kernels.dropout import mixed
from entrenar_core.kernels.registry import array_module, kernel

UPPER, LOWER = 2**15, 2**16
"""How many values the upper 16 bits of a float32 without its sign have, and the lower 16."""


def magnitude_bits(x):
    """The bits of |x| as float32, which are ordered as the magnitudes are."""
    xp = array_module(x)
    return x.astype(xp.float32).view(xp.uint32) & xp.uint32(0x7FFFFFFF)


@kernel
def upper_counts(x, counts):
    """Adds to counts (n, UPPER) how often the elements of x (n, size), without their signs, have
    each upper half of their 32 bits."""
    xp = array_module(x)
    upper = magnitude_bits(x) >> xp.uint32(16)
    for row, found in zip(upper, counts, strict=True):
        found += xp.bincount(row, minlength=UPPER)
    return counts


@kernel
def lower_counts(x, among, counts):
    """Adds to counts (n, LOWER) how often those elements of x (n, size) whose upper half is
    among[i] have each lower half."""
    xp = array_module(x)
    bits = magnitude_bits(x)
    for row, upper, found in zip(bits, among, counts, strict=True):
        chosen = row[row >> xp.uint32(16) == upper] & xp.uint32(0xFFFF)
        found += xp.bincount(chosen, minlength=LOWER)
    return counts


@kernel
def keep_between(x, bounds, ties, seen):
    """x (n, size) with 0 for what is not between two magnitudes: of x[i], |x| < bounds[i, 0] and
    |x| > bounds[i, 1].

    Of the elements whose magnitude is a bound, only some are kept: those equal to the lower one,
    counted from 0 in their order, from ties[i, 0] up to ties[i, 1], and those equal to the upper
    one up to ties[i, 2]. `seen` (n, 2) has how many of them came before, and is brought up to date
    as far as it matters for what follows.
    """
    xp = array_module(x)
    size, x = abs(x), x.copy()
    for row, magnitude, bound, tie, before in zip(x, size, bounds, ties, seen, strict=True):
        low, high = magnitude == bound[0], magnitude == bound[1]
        number_low = xp.cumsum(low) - 1 + before[0]
        number_high = xp.cumsum(high) - 1 + before[1]
        drop = (magnitude < bound[0]) | (magnitude > bound[1])
        drop |= low & ((number_low < tie[0]) | (number_low >= tie[1]))
        drop |= high & (number_high >= tie[2])
        row[drop] = 0
        before += xp.stack([low.sum(), high.sum()])
    return x


@kernel
def keep_drawn(x, keys, limits, start):
    """x (n, size) with 0 for what is not drawn: of x[i] the j-th element is kept where the
    (start + j)-th 32 bits of SplitMix64, seeded with keys[i], are below limits[i].

    Each of its numbers gives the lower half first. Limits are of uint64: 2³² keeps everything.
    """
    xp, x = array_module(x), x.copy()
    first, size = start // 2, x.shape[1]
    for row, key, limit in zip(x, keys, limits, strict=True):
        halves = mixed(xp, key, first, (start + size + 1) // 2 - first).view(xp.uint32)
        drawn = halves[start - 2 * first :][:size].astype(xp.uint64)
        row[drawn >= limit] = 0
    return x


@kernel
def keep_ranked(x, keys, chances, start):
    """x (n, rows, columns) with 0 for what is not drawn, the smaller the likelier.

    An element whose magnitude has rank k of its row, from 0 for the smallest, the earlier one first
    where they are equal, is kept with the chance low + spread·k/(columns − 1), where chances[i] is
    (low, spread); drawn as `keep_drawn` does, in float64 of 53 bits.
    """
    xp, x = array_module(x), x.copy()
    columns = x.shape[2]
    for rows, key, (low, spread) in zip(x, keys, chances, strict=True):
        order = xp.argsort(abs(rows), axis=1, kind="stable")
        ranks = xp.empty_like(order)
        xp.put_along_axis(ranks, order, xp.arange(columns)[None], axis=1)
        chance = low + spread * (ranks / max(columns - 1, 1))
        draws = (mixed(xp, key, start, rows.size) >> xp.uint64(11)) * 2.0**-53
        rows[draws.reshape(rows.shape) >= chance] = 0
    return x
