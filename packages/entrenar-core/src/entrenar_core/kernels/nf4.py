"""4-bit NormalFloat: blocks of numbers, each with its own scale, in a code of 16 entries.

A code stands for one of 16 numbers in [−1, 1] times the largest magnitude in its block. The entries
are quantiles of a normal distribution, so that normal weights use all of them about equally often.
Two codes make a byte, the first of them in the upper half.
Sources: Dettmers et al. 2023, arXiv:2305.14314; the entries and the rounding are bitsandbytes'.
"""

import numpy as np

from entrenar_core.kernels.registry import array_module, kernel

ENTRIES = np.array(
    [
        -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453,
        -0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0,
        0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
        0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
    ],
    np.float32,
)  # fmt: skip
"""What the codes stand for, ascending."""

LIMITS = (ENTRIES[:-1] + ENTRIES[1:]) / 2
"""The middles between neighbours. A number exactly there gets the lower code."""

ZERO = 7
"""The code of 0."""

SMALLEST = np.float32(1e-38)
"""What a scale is taken to be at least, so that its inverse is finite."""


@kernel
def quantize_nf4(x, *, block):
    """Codes (⌈n/2⌉,) uint8, two in a byte, and scales (⌈n/block⌉,) float32 of x (n,).

    The scale is the largest magnitude of a block, and the code is that of the entry nearest to
    x/scale. A half of a byte that is left over has the code of 0.
    """
    xp = array_module(x)
    x = x.astype("float32")
    whole = x.size - x.size % block
    blocks = xp.abs(x[:whole].reshape(-1, block))
    scales = blocks.max(axis=1) if whole else xp.zeros(0, "float32")
    inverse = np.float32(1) / xp.maximum(scales, SMALLEST)
    scaled = x.copy()
    scaled[:whole] *= xp.repeat(inverse, block)
    if whole < x.size:  # bitsandbytes divides in a short block, and keeps the raised scale
        last = xp.maximum(xp.abs(x[whole:]).max(), SMALLEST)
        scales = xp.append(scales, last)
        scaled[whole:] = x[whole:] / last
    codes = xp.full(x.size + x.size % 2, ZERO, "uint8")
    codes[: x.size] = xp.searchsorted(xp.asarray(LIMITS), scaled, side="left")
    return codes[::2] << 4 | codes[1::2], scales
