"""`kernels.narrow` by moving bits, several elements at a time."""

import numpy as np

from entrenar_core.kernels.cpu.arrays import floats, halves
from entrenar_core.kernels.cpu.compile import F, inner, jit
from entrenar_core.kernels.cpu.threads import share_out
from entrenar_core.kernels.registry import KERNELS, override

KINDS = {"float32": 0, "bfloat16": 1, "float16": 2}
"""The numbers that stand for types in compiled code."""

FLOAT32, BFLOAT16, FLOAT16 = KINDS.values()


@inner
def wide_bfloat16(bits):
    """The float32 that a bfloat16 of these bits is."""
    return np.uint32(np.uint32(bits) << np.uint32(16)).view(np.float32)


@inner
def wide_float16(bits):
    """The float32 that a float16 of these bits is."""
    # exponent and mantissa moved into place are off by a factor of 2^112, subnormals too
    bits = np.uint32(bits)
    sign = np.uint32((bits & np.uint32(0x8000)) << np.uint32(16))
    shifted = np.uint32((bits & np.uint32(0x7FFF)) << np.uint32(13))
    scaled = np.float32(shifted.view(np.float32) * F(2.0**112)).view(np.uint32)
    special = shifted >= np.uint32(0x0F800000)  # infinity or NaN
    wide = np.uint32(shifted | np.uint32(0x7F800000)) if special else scaled
    return np.uint32(sign | wide).view(np.float32)


@inner
def widen_to(bits, out, kind):
    """Bits of one of the narrow types as float32."""
    if kind == BFLOAT16:
        for j in range(bits.size):
            out[j] = wide_bfloat16(bits[j])
    else:
        for j in range(bits.size):
            out[j] = wide_float16(bits[j])


@inner
def numbers_at(address, kind, first, count, room):
    """So many elements of what lies at an address, from one of them on, as float32: those of narrow
    types are in the room (count or more,) then."""
    if kind == FLOAT32:
        return floats(address + 4 * first, 1, count)[0]
    found = room[:count]
    widen_to(halves(address + 2 * first, 1, count)[0], found, kind)
    return found


@inner
def nearest_bfloat16(bits):
    """The bits of the bfloat16 that is nearest to the float32 of these bits."""
    odd = np.uint32((bits >> np.uint32(16)) & np.uint32(1))
    nearest = np.uint32(bits + np.uint32(0x7FFF) + odd)
    is_nan = (bits & np.uint32(0x7FFFFFFF)) > np.uint32(0x7F800000)
    kept = np.uint32(nearest if not is_nan else bits | np.uint32(0x400000))
    return np.uint16(kept >> np.uint32(16))


@inner
def nearest_float16(bits):
    """The bits of the float16 that is nearest to the float32 of these bits."""
    sign = np.uint32((bits >> np.uint32(16)) & np.uint32(0x8000))
    size = np.uint32(bits & np.uint32(0x7FFFFFFF))
    # below 2^-14 a sum with 0.5 rounds to the steps of subnormals; above, rebias and round
    small = np.uint32(F(size.view(np.float32) + F(0.5)).view(np.uint32) - np.uint32(0x3F000000))
    odd = np.uint32((size >> np.uint32(13)) & np.uint32(1))
    rebiased = np.uint32(size - np.uint32(0x38000000) + np.uint32(0xFFF) + odd)
    normal = np.uint32(rebiased >> np.uint32(13))
    large = np.uint32(0x7E00 if size > np.uint32(0x7F800000) else 0x7C00)
    found = small if size < np.uint32(0x38800000) else normal
    found = large if size >= np.uint32(0x47800000) else found
    return np.uint16(sign | found)


@inner
def _widen_bfloat16_rows(first, last, x, out):
    for i in range(first, last):
        source, target = x[i], out[i]
        for j in range(source.size):
            target[j] = wide_bfloat16(source[j])


@jit
def _widen_bfloat16(x, out):
    share_out(_widen_bfloat16_rows, x.shape[0], x.size, (x, out))


@inner
def _widen_float16_rows(first, last, x, out):
    for i in range(first, last):
        source, target = x[i], out[i]
        for j in range(source.size):
            target[j] = wide_float16(source[j])


@jit
def _widen_float16(x, out):
    share_out(_widen_float16_rows, x.shape[0], x.size, (x, out))


def _widened(function):
    def widen(x, *, out=None):
        out = np.empty(x.shape, np.float32) if out is None else out
        function(x.view(np.uint16), out)
        return out

    return widen


@inner
def _round_bfloat16_rows(first, last, x, out):
    for i in range(first, last):
        source, target = x[i], out[i]
        for j in range(source.size):
            target[j] = nearest_bfloat16(source[j])


@jit
def _round_bfloat16(x, out):
    share_out(_round_bfloat16_rows, x.shape[0], x.size, (x, out))


@inner
def _round_float16_rows(first, last, x, out):
    for i in range(first, last):
        source, target = x[i], out[i]
        for j in range(source.size):
            target[j] = nearest_float16(source[j])


@jit
def _round_float16(x, out):
    share_out(_round_float16_rows, x.shape[0], x.size, (x, out))


_ROUNDED = {"bfloat16": _round_bfloat16, "float16": _round_float16}


@override("narrow.rounded", "float32")
def _rounded(x, *, out):
    function = _ROUNDED.get(out.dtype.name)
    if function is None:
        return KERNELS["narrow.rounded"].reference(x, out=out)
    function(x.view(np.uint32), out.view(np.uint16))
    return out


override("narrow.widen", "bfloat16")(_widened(_widen_bfloat16))
override("narrow.widen", "float16")(_widened(_widen_float16))
