"""What numbers an array (n,) has: how often each pattern of 16 bits occurs, and sums.

Of a 16-bit type the counts say everything: every moment and quantile follows from them exactly.
"""

from entrenar_core.kernels.registry import array_module, kernel

PATTERNS = 2**16
"""How many values 16 bits have."""

FACTS = 7
"""Numbers that `survey` gives."""


@kernel
def tally(bits, counts):
    """Adds to counts (PATTERNS,) int64 how often each pattern occurs in bits (n,) uint16."""
    counts += array_module(bits).bincount(bits, minlength=PATTERNS)
    return counts


@kernel
def survey(x, counts):
    """Adds to counts (PATTERNS,) int64 how often the elements of x (n,) float32 have each upper
    half of their bits, and returns seven facts in float64: Σx, Σx², the least and the largest, of
    those that are finite (∞ and −∞ where there are none); how many are 0, NaN, infinite."""
    xp = array_module(x)
    counts += xp.bincount(x.astype(xp.float32).view(xp.uint32) >> xp.uint32(16), minlength=PATTERNS)
    finite = x[xp.isfinite(x)].astype(xp.float64)
    nans = int(xp.isnan(x).sum())
    least, largest = finite.min(initial=xp.inf), finite.max(initial=-xp.inf)
    sums = [finite.sum(), (finite * finite).sum(), least, largest]
    return xp.array([*sums, (x == 0).sum(), nans, x.size - finite.size - nans], xp.float64)
