"""Which elements dropout keeps: a pure function of a key and the element's number."""

from entrenar_core.kernels.registry import array_module, kernel

GOLDEN = 0x9E3779B97F4A7C15
MIX_1, MIX_2 = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
"""The constants of SplitMix64: Steele, Lea and Flood 2014, doi:10.1145/2660193.2660195."""


def kept(xp, key, count, p):
    """Booleans (count,): element i is kept when the i-th output of SplitMix64, seeded with `key`,
    is at least p · 2⁶⁴, so with probability 1 − p."""
    return mixed(xp, key, 0, count) >= threshold(xp, p)


def mixed(xp, key, start, count):
    """The outputs of SplitMix64, seeded with `key`, from number `start` on: uint64 (count,)."""
    z = xp.arange(start + 1, start + count + 1, dtype=xp.uint64) * xp.uint64(GOLDEN)
    z = z + xp.uint64(key)
    z = (z ^ (z >> xp.uint64(30))) * xp.uint64(MIX_1)
    z = (z ^ (z >> xp.uint64(27))) * xp.uint64(MIX_2)
    return z ^ (z >> xp.uint64(31))


def threshold(xp, p):
    """p · 2⁶⁴ as an unsigned integer, for 0 ≤ p < 1."""
    return xp.uint64(int(p * 2**64))


@kernel
def dropout(x, *, p, key):
    """x / (1 − p) where it is kept, else 0. The gradient is the same function of the gradient.

    Source: Srivastava et al. 2014, JMLR 15.
    """
    xp = array_module(x)
    chosen = kept(xp, key, x.size, p).reshape(x.shape)
    return xp.where(chosen, x * x.dtype.type(1 / (1 - p)), x.dtype.type(0))
