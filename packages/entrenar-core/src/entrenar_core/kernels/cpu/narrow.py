"""`kernels.narrow` by moving bits, several elements at a time."""

import numba
import numpy as np

from entrenar_core.kernels.cpu.compile import F, jit
from entrenar_core.kernels.registry import override


@jit
def _widen_bfloat16(x, out):
    for i in numba.prange(x.shape[0]):
        source, target = x[i], out[i]
        for j in range(source.size):
            target[j] = np.uint32(np.uint32(source[j]) << np.uint32(16)).view(np.float32)


@jit
def _widen_float16(x, out):
    # exponent and mantissa moved into place are off by a factor of 2^112, subnormals too
    for i in numba.prange(x.shape[0]):
        source, target = x[i], out[i]
        for j in range(source.size):
            bits = np.uint32(source[j])
            sign = np.uint32((bits & np.uint32(0x8000)) << np.uint32(16))
            shifted = np.uint32((bits & np.uint32(0x7FFF)) << np.uint32(13))
            scaled = np.float32(shifted.view(np.float32) * F(2.0**112)).view(np.uint32)
            special = shifted >= np.uint32(0x0F800000)  # infinity or NaN
            wide = np.uint32(shifted | np.uint32(0x7F800000)) if special else scaled
            target[j] = np.uint32(sign | wide).view(np.float32)


def _widened(function):
    def widen(x, *, out=None):
        out = np.empty(x.shape, np.float32) if out is None else out
        function(x.view(np.uint16), out)
        return out

    return widen


override("narrow.widen", "bfloat16")(_widened(_widen_bfloat16))
override("narrow.widen", "float16")(_widened(_widen_float16))
