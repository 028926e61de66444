"""Parts of arrays of few bits as floats: any elements, whether or not a block begins there."""

import numpy as np

from entrenar_core.kernels.narrow import NARROW, narrow_type
from entrenar_core.kernels.nf4 import ENTRIES
from entrenar_core.kernels.registry import array_module, kernel


@kernel
def nf4_part(codes, scales, *, block, dtype, start, out):
    """The elements from `start` on of an array in NF4, as many as `out` (n,) float32 has.

    `codes` has two elements in a byte, `scales` a float32 for each block of `block` elements, both
    of the whole array. The numbers are rounded to `dtype` ("float32", "float16", "bfloat16").
    """
    xp = array_module(codes)
    places = xp.arange(start, start + out.size)
    shifts = (4 - 4 * (places % 2)).astype("uint8")
    each = codes[places // 2] >> shifts & np.uint8(15)
    found = xp.asarray(ENTRIES)[each] * scales[places // block]
    with np.errstate(over="ignore"):  # beyond the largest float16 is infinity
        out[...] = found.astype(narrow_type(dtype)) if dtype in NARROW else found
    return out


@kernel
def nested_nf4_part(
    codes, scales, absmax, entries, *, block, nested, offset, dtype, start, out
):  # fmt: skip
    """`nf4_part` with scales in 8 bits: a code c of `scales`, in block b of `nested` scales, stands
    for entries[c] · absmax[b] + offset."""
    xp = array_module(codes)
    low, high = start // block, -(-(start + out.size) // block)
    wide = xp.zeros(high, "float32")
    sizes = absmax[xp.arange(low, high) // nested]
    wide[low:] = entries[scales[low:high]] * sizes + np.float32(offset)
    return nf4_part.reference(codes, wide, block=block, dtype=dtype, start=start, out=out)


@kernel
def affine_part(data, scale, zero, *, bits, low, length, start, out):
    """(q − zero)·scale of the elements from `start` on, as many as `out` (n,) float32 has.

    Element i has the code q − low in the bits i·bits and up of `data`, a little-endian number, and
    the number i // length of `scale` (S,) float32 and of `zero` (S,) uint8.
    """
    xp = array_module(data)
    places = xp.arange(start, start + out.size)
    byte, shift = places * bits // 8, places * bits % 8
    beside = data[xp.minimum(byte + 1, data.size - 1)].astype("uint16")
    both = data[byte] | beside << np.uint16(8)
    codes = both >> shift.astype("uint16") & np.uint16(2**bits - 1)
    each = places // length
    out[...] = (codes.astype("float32") + (np.float32(low) - zero[each])) * scale[each]
    return out
