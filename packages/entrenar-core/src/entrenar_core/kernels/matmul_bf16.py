"""Matrix product of bfloat16 numbers, summed in float32."""

from typing import Any

import numpy as np

from entrenar_core.kernels.matmul import matmul
from entrenar_core.kernels.matmul_stack import matmul_stack
from entrenar_core.kernels.narrow import narrow_type
from entrenar_core.kernels.panels import by_panels, comes_in_panels
from entrenar_core.kernels.registry import array_module, code_of, kernel


def as_bfloat16(x):
    """x (…) rounded to bfloat16, to nearest and ties to even, as numbers of its own type.

    As processors do it that multiply such numbers: what is smaller than the least normal number,
    before or after rounding, is zero.
    """
    xp = array_module(x)
    bits = xp.ascontiguousarray(x, "float32").view("uint32")
    size = bits & 0x7FFFFFFF
    near = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
    near = xp.where(size > 0x7F800000, bits & 0xFFFF0000 | 0x400000, near)  # NaN stays NaN
    near = xp.where(size < 0x00800000, bits & 0x80000000, near)
    return near.astype("uint32").view("float32").reshape(x.shape).astype(x.dtype, copy=False)


def has_bf16() -> bool:
    """Whether the processor multiplies bfloat16 numbers by itself, and kernels are compiled for
    it."""
    return bool(getattr(code_of("cpu", "matmul_bf16"), "AVAILABLE", False))


def packed_bf16(matrix):
    """`matrix` (N, K) in bfloat16, as the second operand of products with its transpose that is
    given again and again: laid out once for all of them, and half as large as float32.

    A `Held` where the processor multiplies such numbers, else a bfloat16 array.
    """
    code: Any = code_of("cpu", "matmul_bf16")
    if has_bf16():
        return code.packed(matrix)
    return np.asarray(matrix, np.float32).astype(narrow_type("bfloat16"))


@kernel
def matmul_bf16(a, b, *, trans_a=False, trans_b=False, out=None, add=False):
    """`matmul` of a and b rounded to bfloat16: products and sums are those of float32.

    The arguments are those of `matmul`, float32 as there.
    """
    options = {"trans_a": trans_a, "trans_b": trans_b, "out": out, "add": add}
    if comes_in_panels(b):
        return by_panels(matmul_bf16.reference, a, b, **options)
    return matmul.reference(as_bfloat16(a), as_bfloat16(b), **options)


@kernel
def matmul_stack_bf16(a, b, *, trans_a=False, trans_b=False):
    """`matmul_stack` of a and b rounded to bfloat16: products and sums are those of float32."""
    return matmul_stack.reference(as_bfloat16(a), as_bfloat16(b), trans_a=trans_a, trans_b=trans_b)
