"""Sums whose order is said, so that they have the bits of others that are added in it."""

from entrenar_core.kernels.registry import array_module, kernel

LANES = 8
"""Sums of squares of a row."""

ROWS, COLUMNS = 16, 32
"""Of a group of products."""


@kernel
def add_rows(x, sums):
    """`sums` (n, columns) and then, one after the other, the rows of x (n, k, columns)."""
    xp = array_module(x)
    rows = xp.concatenate([sums[:, None], x], axis=1)
    if x.shape[2] > 1:
        return xp.add.reduce(rows, axis=1)  # in their order, as the last axis is not the one
    return xp.cumsum(rows[..., 0], axis=1, dtype=x.dtype)[:, -1:]


@kernel
def add_squares(x, sums):
    """`sums` (n, 8) and then, one after the other, the squares of the rows of x (n, k, 8), which
    are widened to the type of `sums`."""
    xp = array_module(x)
    rows = xp.concatenate([sums[:, None], xp.square(x.astype(sums.dtype))], axis=1)
    return xp.add.reduce(rows, axis=1)


@kernel
def unit_products(x, lengths):
    """The products x[0]/lengths[0] · x[1]/lengths[1] of x (2, k, 512) as groups of 16 rows of 32
    numbers each; the sums of the rows of a group, one after the other: (k, 32). x is widened to the
    type of `lengths`."""
    xp = array_module(x)
    a, b = x.astype(lengths.dtype) / lengths[:, None, None]
    return xp.add.reduce((a * b).reshape(-1, ROWS, COLUMNS), axis=1)
