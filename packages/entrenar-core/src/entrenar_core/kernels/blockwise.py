"""Eight-bit optimizer state: blocks of 256 numbers, each with its own scale, in a dynamic code.

A code stands for an entry of a sorted map of 256 numbers in [−1, 1] times the largest magnitude in
its block. The map has seven decades, with more entries in the upper ones, so that the small and the
large values of a block keep a similar relative precision.
Sources: Dettmers et al. 2022, arXiv:2110.02861 (blocks, optimizer); Dettmers 2016,
arXiv:1511.04561 (the dynamic type); the entries and the block size are those of bitsandbytes.
"""

from functools import cache

import numpy as np

from entrenar_core.kernels.registry import array_module, kernel

BLOCK = 256
DECADES = 7


@cache
def dynamic_map(signed: bool) -> np.ndarray:
    """The 256 numbers that the codes stand for, ascending, float32; read-only.

    Decade i of seven covers (0.1, 1]·10^(i−6): its entries are the middles of 2ⁱ (signed, and their
    negatives) or 2ⁱ⁺¹ (unsigned) equal parts. 0 and 1 are added; −1 is not there.
    """
    entries = [0.0, 1.0]
    for decade in range(DECADES):
        parts = 2**decade if signed else 2 ** (decade + 1)
        edges = _even_edges(parts)
        middles = np.float32(10.0 ** (decade - DECADES + 1)) * ((edges[:-1] + edges[1:]) / 2)
        entries += [*middles, *-middles] if signed else [*middles]
    found = np.sort(np.array(entries, np.float32))
    found.flags.writeable = False
    return found


def _even_edges(parts: int) -> np.ndarray:
    """The ends of equal parts of [0.1, 1] in float32: the lower half counted from 0.1 and the upper
    from 1 by a step that is rounded, with one rounding of the result, as bitsandbytes' entries are.
    """
    low, high = np.float32(0.1), np.float32(1)
    step = np.float64((high - low) / np.float32(parts))
    steps = np.arange(parts + 1)
    from_low, from_high = np.float64(low) + step * steps, 1 - step * steps[::-1]
    return np.where(steps < (parts + 1) // 2, from_low, from_high).astype(np.float32)


@cache
def _limits(signed: bool) -> np.ndarray:
    """Between two neighbours in the map: the largest float32 that is not nearer to the upper one,
    with distances in float32. So the code of x is the number of limits below x, and a tie goes to
    the lower entry."""
    entries = dynamic_map(signed)
    low, high = entries[:-1], entries[1:]
    middle = (low + high) / 2
    below, above = np.nextafter(middle, low), np.nextafter(middle, high)
    middle = np.where(middle - low <= high - middle, middle, below)
    return np.where(above - low <= high - above, above, middle)


@cache
def nearest_table(signed: bool) -> tuple[np.ndarray, np.ndarray]:
    """A search for the nearest entry in one step: `start` (65536,) and `limits` (256,).

    The upper 16 bits of a float32 name a range of numbers that has at most one limit inside, and
    `start` says how many limits are below it: the code of x is c = start[bits(x) >> 16], plus one
    if x > limits[c].
    """
    limits = np.append(_limits(signed), np.float32(np.inf))
    ends = np.arange(65536, dtype=np.uint32) << 16
    ends[32768:] |= 0xFFFF  # of negative numbers the one with the largest magnitude is the lowest
    with np.errstate(invalid="ignore"):
        lowest = np.nan_to_num(ends.view(np.float32), nan=0.0)
    return np.searchsorted(limits, lowest, side="left").astype(np.uint8), limits


@kernel
def quantize_blockwise(x, *, signed):
    """Codes (n,) uint8 and the largest magnitude of each block (⌈n/256⌉,) float32, of x (n,).

    The code of x is that of the entry nearest to x/absmax, of the lower one if two are as near;
    in a block of zeros all codes are 0. Without `signed` x must not be negative.
    """
    xp = array_module(x)
    blocks = -(-x.size // BLOCK)
    padded = xp.zeros(blocks * BLOCK, "float32")
    padded[: x.size] = x
    padded = padded.reshape(blocks, BLOCK)
    absmax = xp.abs(padded).max(axis=1)
    # the inverse of a subnormal number may be infinite, and 0 · ∞ is not a number
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        inverse = xp.minimum(np.float32(1) / absmax, np.finfo("float32").max)
        scaled = padded * inverse[:, None]
    codes = xp.searchsorted(xp.asarray(_limits(signed)), scaled, side="left").astype("uint8")
    codes[absmax == 0] = 0
    return codes.reshape(-1)[: x.size], absmax


@kernel
def dequantize_blockwise(codes, absmax, *, signed):
    """The numbers (n,) float32 that `codes` (n,) uint8 and `absmax` (⌈n/256⌉,) stand for."""
    xp = array_module(codes)
    scales = xp.repeat(absmax, BLOCK)[: codes.size]
    return xp.asarray(dynamic_map(signed))[codes] * scales


@kernel
def adam_8bit(
    p, g, m, v, m_absmax, v_absmax, *, lr, beta1, beta2, eps, l2, decay, step, scale
):  # fmt: skip
    """One step of Adam (decay = 1) or AdamW (l2 = 0) with moments in 8 bits, in place.

    p and g are (n,) with n a multiple of 256, m and v their codes, signed and unsigned, with a
    scale for each block. Block by block the moments are decoded, updated as in `update.adam` with
    g ← scale·g + l2·p, used for p ← decay·p − …, and encoded again.
    """
    xp = array_module(p)
    kind = p.dtype.type
    for start in range(0, p.size, BLOCK):
        part, block = slice(start, start + BLOCK), slice(start // BLOCK, start // BLOCK + 1)
        x = p[part]
        gradient = g[part] * kind(scale) + kind(l2) * x
        mean = kind(beta1) * dequantize_blockwise.reference(m[part], m_absmax[block], signed=True)
        mean = mean + kind(1 - beta1) * gradient
        square = kind(beta2) * dequantize_blockwise.reference(
            v[part], v_absmax[block], signed=False
        )
        square = square + kind(1 - beta2) * gradient * gradient
        root = xp.sqrt(square * kind(1 / (1 - beta2**step))) + kind(eps)
        x *= kind(decay)
        x -= kind(lr / (1 - beta1**step)) * mean / root
        m[part], m_absmax[block] = quantize_blockwise.reference(mean, signed=True)
        v[part], v_absmax[block] = quantize_blockwise.reference(square, signed=False)
    return p
