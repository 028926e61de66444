"""`kernels.nf4`: every block by itself, in one pass after that for its scale."""

import numpy as np

from entrenar_core.kernels import nf4
from entrenar_core.kernels.cpu.compile import F, inner, jit
from entrenar_core.kernels.cpu.threads import share_out
from entrenar_core.kernels.registry import override


@inner
def _encode(x, codes, each, limits, smallest):
    # magnitudes are ordered as the integers that have their bits
    bits, largest = x.view(np.int32), np.int32(0)
    for i in range(bits.size):
        largest = max(largest, bits[i] & np.int32(0x7FFFFFFF))
    scale = np.int32(largest).view(np.float32)
    inverse = F(1) / max(scale, smallest)
    each[:] = np.int32(0)
    for limit in limits:  # all numbers against one limit at a time: that is what vectorizes
        for i in range(x.size):
            each[i] += np.int32(F(x[i] * inverse) > limit)
    for pair in range(codes.size):
        codes[pair] = np.uint8((each[2 * pair] << np.int32(4)) | each[2 * pair + 1])
    return scale


@inner
def _encode_blocks(first, last, x, codes, scales, limits, smallest, block):
    each = np.empty(block, np.int32)
    for b in range(first, last):
        start, end = b * block, b * block + block
        values, target = x[start:end], codes[start // 2 : end // 2]
        scales[b] = _encode(values, target, each, limits, smallest)


@jit
def _quantize(x, codes, scales, limits, smallest, block):
    told = (x, codes, scales, limits, smallest, block)
    share_out(_encode_blocks, scales.size, x.size, told)


@override("nf4.quantize_nf4", "float32")
def quantize_nf4(x, *, block):
    codes = np.empty((x.size + 1) // 2, np.uint8)
    scales = np.empty(-(-x.size // block), np.float32)
    x = np.ascontiguousarray(x)
    whole = x.size - x.size % block
    _quantize(x[:whole], codes, scales[: whole // block], nf4.LIMITS, nf4.SMALLEST, block)
    if whole < x.size:  # compiled code may replace the division there by a product
        codes[whole // 2 :], scales[-1:] = nf4.quantize_nf4.reference(x[whole:], block=block)
    return codes, scales
