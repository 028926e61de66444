"""Gated activations, fused with the projection that follows them."""

from entrenar_core import kernels
from entrenar_core.autograd.op import op
from entrenar_core.autograd.ops.matmul import starting_sum
from entrenar_core.autograd.tape import into


@op
def swiglu_linear(gate, up, weight, bias=None, residual=None):
    """(silu(gate)·up) Wᵀ (+ bias) (+ residual).

    gate, up (..., F), weight (D, F), residual (..., D) → (..., D). The product silu(gate)·up is
    computed again backwards, which costs one pass and saves an activation of the largest width.
    """
    shape = (*gate.shape[:-1], weight.shape[0])
    gates, ups = (a.reshape(-1, a.shape[-1]) for a in (gate, up))  # (N, F)
    y = starting_sum((len(gates), shape[-1]), bias, residual)
    y = kernels.matmul(kernels.swiglu(gates, ups), weight, trans_b=True, out=y, add=y is not None)

    def pull(g, _dest_gate, _dest_up, dest_weight):
        rows = g.reshape(-1, weight.shape[0])  # (N, D)
        dgate, dup, inner = kernels.swiglu_grad(kernels.matmul(rows, weight), gates, ups)
        dweight = None
        if dest_weight is not None:
            dweight = kernels.matmul(
                rows, inner, trans_a=True, out=dest_weight.array, add=dest_weight.add
            )
        return dgate.reshape(gate.shape), dup.reshape(up.shape), dweight

    def pull_bias(g):
        return g.reshape(-1, weight.shape[0]).sum(axis=0)

    return y.reshape(shape), (into(pull, 3), pull_bias, lambda g: g)
