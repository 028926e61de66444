"""What rows have in common: sums over float32 rows (n, size), in float64."""

from entrenar_core.kernels.registry import array_module, kernel


@kernel
def magnitudes(x):
    """Σ|x| of each row of x (n, size), float64."""
    xp = array_module(x)
    return abs(x).sum(axis=1, dtype=xp.float64)


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
