"""How much fits into memory."""

from collections.abc import Callable

LONGEST = 2**20
"""No batch or sequence beyond this is looked for."""


def largest(fits: Callable[[int], bool]) -> int:
    """The largest n up to LONGEST that fits, by halving: what fits at n fits below; 0 for none."""
    low, high = 0, 1
    while high <= LONGEST and fits(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low
