"""Matrix product of two-dimensional arrays, with transposes and accumulation."""

from entrenar_core.kernels.panels import by_panels, comes_in_panels
from entrenar_core.kernels.registry import array_module, kernel


@kernel
def matmul(a, b, *, trans_a=False, trans_b=False, out=None, add=False):
    """out (M, N) = op(a) @ op(b), plus `out`'s old contents if `add`.

    op(a) is (M, K) and op(b) is (K, N); op transposes when the flag says so. `out` is allocated
    when it is None. Rows of every operand must be contiguous; rows may be strided, so a column
    slice of a wider matrix is a valid operand and a valid `out`. b may be bfloat16 or float16, or
    `Held` in few bits: it is widened exactly, a panel at a time, so that no float32 copy of it
    exists.
    """
    if comes_in_panels(b):
        options = {"trans_a": trans_a, "trans_b": trans_b, "out": out, "add": add}
        return by_panels(matmul.reference, a, b, **options)
    xp = array_module(a)
    left = a.T if trans_a else a
    right = b.T if trans_b else b
    if add:
        out += left @ right
        return out
    return xp.matmul(left, right, out=out)
