"""What rows have in common, and how two arrays differ: sums in float64."""

from entrenar_core.kernels.registry import array_module, kernel


@kernel
def magnitudes(x):
    """Σ|x| of each row of x (n, size), float64."""
    xp = array_module(x)
    return abs(x).sum(axis=1, dtype=xp.float64)


@kernel
def compare(changes, base, merged):
    """How `changes` (n, size) to what `base` (size,) is, and what `merged` (size,) has of them.

    Returns the products with each other of n + 2 vectors (float64): changes, merged − base, and
    base; and in how many elements the signs of the changes disagree.
    """
    xp = array_module(changes)
    conflicts = int(((changes > 0).any(0) & (changes < 0).any(0)).sum())
    vectors = xp.concatenate([changes, (merged - base)[None], base[None]]).astype(xp.float64)
    return vectors @ vectors.T, conflicts


@kernel
def differences(a, b):
    """How `b` (size,) differs from `a` (size,), floats of the same type.

    Returns sums (4,) of a², b², a·b and (b − a)² over the elements that are finite in both, in
    float64; and counts (3,): the elements that are not equal (NaN is equal to NaN), those among
    them of which one is not finite, and the index of the first that has the largest finite
    |b − a|, which is rounded to float32 if they have no more bits themselves.
    """
    xp = array_module(a)
    kind = xp.float64 if a.dtype == xp.float64 else xp.float32
    a, b = a.astype(kind), b.astype(kind)
    unequal = (a != b) & ~(xp.isnan(a) & xp.isnan(b))
    finite = xp.isfinite(a) & xp.isfinite(b)
    unlike = unequal & ~finite
    if not finite.all():
        a, b = xp.where(finite, a, 0), xp.where(finite, b, 0)
    with xp.errstate(over="ignore"):
        largest = xp.abs(b - a).argmax() if a.size else 0
    a, b = a.astype(xp.float64), b.astype(xp.float64)
    change = b - a
    sums = xp.array([a @ a, b @ b, a @ b, change @ change])
    return sums, xp.array([unequal.sum(), unlike.sum(), largest], xp.int64)
