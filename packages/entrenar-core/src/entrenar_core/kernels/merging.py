"""Steps of merging models: some elements of n tensors at a time, as float32 rows (n, size).

Where `work` is "bfloat16" or "float16" every step is rounded to what that type holds, as it is
where the arithmetic itself is done in that type.
"""

from entrenar_core.kernels.narrow import narrow_type, rounded, widen
from entrenar_core.kernels.registry import array_module, kernel


def in_numbers_of(x, work):
    """x, each element rounded to what `work` holds."""
    if work == "float32":
        return x
    xp = array_module(x)
    rows = x.reshape(1, -1)
    narrow = rounded.reference(rows, out=xp.empty(rows.shape, narrow_type(work)))
    return widen.reference(narrow).reshape(x.shape)


@kernel
def task_vectors(inputs, *, work):
    """What inputs[1:] (n, size) have more than inputs[0], in float32; `inputs` is of any of
    the three types."""
    wide = widen.reference(inputs) if inputs.dtype.name != "float32" else inputs
    return in_numbers_of(wide[1:] - wide[0], work)


@kernel
def combine(inputs, weights):
    """Σ wᵢxᵢ of inputs (n, size) and weights (n,), one after the other, each step in float32;
    `inputs` is of any of the three types."""
    wide = widen.reference(inputs) if inputs.dtype.name != "float32" else inputs
    total = wide[0] * weights[0]
    for row, weight in zip(wide[1:], weights[1:], strict=True):
        total = total + row * weight
    return total


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
def weighted_sum(x, weights, *, divisor=None):
    """Σ wᵢxᵢ of x (n, size), summed from the first to the last, each product and sum rounded once;
    divided by `divisor` if given."""
    xp = array_module(x)
    total = x[0] * weights[0]
    for row, weight in zip(x[1:].astype(xp.float64), weights[1:], strict=True):
        total = (total + row * xp.float64(weight)).astype(x.dtype)
    return total if divisor is None else total / x.dtype.type(divisor)
