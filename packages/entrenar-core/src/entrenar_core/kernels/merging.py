"""Steps of merging models: some elements of n tensors at a time, as float32 rows (n, size).

Where `work` is "bfloat16" or "float16" every step is rounded to what that type holds, as it is
where the arithmetic itself is done in that type.
"""

import ml_dtypes

from entrenar_core.kernels.dropout import mixed
from entrenar_core.kernels.narrow import rounded, widen
from entrenar_core.kernels.registry import array_module, kernel

UPPER, LOWER = 2**15, 2**16
"""How many values the upper 16 bits of a float32 without its sign have, and the lower 16."""


def in_numbers_of(x, work):
    """x, each element rounded to what `work` holds."""
    if work == "float32":
        return x
    xp = array_module(x)
    kind = ml_dtypes.bfloat16 if work == "bfloat16" else xp.float16
    rows = x.reshape(1, -1)
    return widen.reference(rounded.reference(rows, out=xp.empty(rows.shape, kind))).reshape(x.shape)


def magnitude_bits(x):
    """The bits of |x| as float32, which are ordered as the magnitudes are."""
    xp = array_module(x)
    return x.astype(xp.float32).view(xp.uint32) & xp.uint32(0x7FFFFFFF)


@kernel
def task_vectors(inputs, *, work):
    """What inputs[1:] (n, size) have more than inputs[0], in float32; `inputs` is of any of
    the three types."""
    wide = widen.reference(inputs) if inputs.dtype.name != "float32" else inputs
    return in_numbers_of(wide[1:] - wide[0], work)


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
    one up to ties[i, 2]. `seen` (n, 2) has how many of them came before, and is brought up to date.
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
    """x (n, size) with 0 for what is not drawn: of x[i] the j-th element is kept where the number
    start + j of SplitMix64, seeded with keys[i], is below limits[i], of uint64."""
    xp, x = array_module(x), x.copy()
    for row, key, limit in zip(x, keys, limits, strict=True):
        row[mixed(xp, key, start, row.size) >= limit] = 0
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


@kernel
def scale_rows(x, factors, *, work):
    """x (n, size) times factors (n,), in place."""
    x[...] = in_numbers_of(x * factors[:, None], work)
    return x


@kernel
def consensus(deltas, weights, base, *, elect, normalize, factor, work):
    """base + factor·Σ wᵢdᵢ: deltas (n, size) and weights (n,), in this order; base (size,).

    With `elect` only those wᵢdᵢ count that have the sign of Σ wᵢdᵢ, + where that is 0, and are not
    0 (Yadav et al. 2023, arXiv:2306.01708). With `normalize` the sum is divided by the sum of the
    weights that count, unless that is 0.
    """
    xp = array_module(deltas)

    def summed(x):
        total = x[0]
        for row in x[1:]:
            total = total + row
        return in_numbers_of(total, work)

    scaled = in_numbers_of(deltas * weights[:, None], work)
    shares = xp.broadcast_to(weights[:, None], scaled.shape)
    if elect:
        sign = xp.where(summed(scaled) >= 0, 1, -1)
        counts = xp.sign(scaled) == sign  # a 0 has no sign, and never counts
        scaled, shares = scaled * counts, shares * counts
    mixture = summed(scaled)
    if normalize:
        divisor = summed(shares)
        small = divisor == 0 if elect else abs(divisor) < 1e-8
        mixture = in_numbers_of(mixture / xp.where(small, base.dtype.type(1), divisor), work)
    if factor != 1:
        mixture = in_numbers_of(mixture * base.dtype.type(factor), work)
    return in_numbers_of(base + mixture, work)


@kernel
def magnitudes(x):
    """Σ|x| of each row of x (n, size), float64."""
    xp = array_module(x)
    return abs(x).sum(axis=1, dtype=xp.float64)


@kernel
def weighted_sum(x, weights, *, divisor=None):
    """Σ wᵢxᵢ of x (n, size), summed from the first to the last, each product and sum rounded once;
    divided by `divisor` if given."""
    xp = array_module(x)
    total = x[0] * weights[0]
    for row, weight in zip(x[1:].astype(xp.float64), weights[1:], strict=True):
        total = (total + row * xp.float64(weight)).astype(x.dtype)
    return total if divisor is None else total / x.dtype.type(divisor)


@kernel
def gram(x):
    """The products of the rows of x (n, size) with each other, (n, n) float64."""
    xp = array_module(x)
    wide = x.astype(xp.float64)
    return wide @ wide.T


@kernel
def compare(changes, base, merged):
    """How `changes` (n, size) to what `base` (size,) is, and what `merged` (size,) has of them.

    Returns the products with each other of n + 2 vectors (float64): changes, merged − base, and
    base; and in how many elements the signs of the changes disagree.
    """
    xp = array_module(changes)
    conflicts = int(((changes > 0).any(0) & (changes < 0).any(0)).sum())
    return gram.reference(xp.concatenate([changes, (merged - base)[None], base[None]])), conflicts
