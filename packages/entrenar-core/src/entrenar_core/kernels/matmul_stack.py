"""Products of many matrices of one size."""

from entrenar_core.kernels.registry import array_module, kernel


@kernel
def matmul_stack(a, b, *, trans_a=False, trans_b=False):
    """op(a) @ op(b) for each matrix: (S, M, K), (S, K, N) → (S, M, N).

    op transposes the matrices, not their order, when the flag says so. As in `matmul`, rows should
    be contiguous; matrices may lie anywhere, also all in one place.
    """
    xp = array_module(a)
    return xp.matmul(
        a.swapaxes(1, 2) if trans_a else a,
        b.swapaxes(1, 2) if trans_b else b,
    )
