"""Products with a weight that has a low-rank update: Hu et al. 2021, arXiv:2106.09685."""

from entrenar_common.errors import ShapeError
from entrenar_core.autograd.op import op, takes_held
from entrenar_core.autograd.ops.matmul import starting_sum
from entrenar_core.autograd.precision import products
from entrenar_core.autograd.tape import into


@op
@takes_held("weight")
def low_rank_linear(
    x, weight, a, b, dropped=None, bias=None, residual=None, *, scale, transposed=False
):
    """x Wᵀ + scale · (x Aᵀ) Bᵀ (+ bias) (+ residual).

    x (..., I), weight (O, I), a (R, I), b (O, R), bias (O,), residual (..., O) → (..., O). With
    `transposed`, the weight is (I, O). `dropped` (..., I), if there is one, takes the place of x in
    the second product. That is added to the first in place, and B·A is never formed; of a weight
    that needs no gradient, none is computed.
    """
    _check("low_rank_linear", x.shape[-1], weight.shape[::-1] if transposed else weight.shape, a, b)
    rows, outputs = x.reshape(-1, x.shape[-1]), len(b)  # (N, I)
    multiply = products().matmul
    seen = rows if dropped is None else dropped.reshape(rows.shape)
    shape = (*x.shape[:-1], outputs)
    y = starting_sum((len(rows), outputs), bias, residual)
    y = multiply(rows, weight, trans_b=not transposed, out=y, add=y is not None)
    inner = multiply(seen, a, trans_b=True)  # (N, R)
    inner *= scale
    multiply(inner, b, trans_b=True, out=y, add=True)

    def flat(g):
        return g.reshape(-1, outputs)  # (N, O)

    def inner_gradient(g):
        found = multiply(flat(g), b)  # (N, R)
        found *= scale
        return found

    def input_gradient(g, dinner, dest):
        out = None if dest.array is None else dest.array.reshape(rows.shape)
        dx = multiply(g, weight, trans_b=transposed, out=out, add=dest.add)
        if dropped is None:
            multiply(dinner, a, out=dx, add=True)
        return dx.reshape(x.shape) if out is None else dest.array

    def gradient(left, right, dest):
        if dest is None:
            return None
        return multiply(left, right, trans_a=True, out=dest.array, add=dest.add)

    def pull(g, to_x, to_weight, to_a, to_b):
        g, dinner = flat(g), inner_gradient(g)
        return (
            None if to_x is None else input_gradient(g, dinner, to_x),
            gradient(rows, g, to_weight) if transposed else gradient(g, rows, to_weight),
            gradient(dinner, seen, to_a),
            gradient(g, inner, to_b),
        )

    def pull_dropped(g):
        return multiply(inner_gradient(g), a).reshape(x.shape)

    def pull_bias(g):
        return flat(g).sum(axis=0)

    return y.reshape(shape), (into(pull, 4), pull_dropped, pull_bias, lambda g: g)


@op
def low_rank_weight(weight, a, b, *, scale, transposed=False):
    """W + scale · B A, whole: weight (O, I), or (I, O) with `transposed`; a (R, I), b (O, R)."""
    _check("low_rank_weight", a.shape[1], weight.shape[::-1] if transposed else weight.shape, a, b)
    multiply = products().matmul
    total = multiply(b * b.dtype.type(scale), a)  # (O, I)
    total = weight + (total.T if transposed else total)

    def pull_a(g):
        g = g.T if transposed else g
        return multiply(b * b.dtype.type(scale), g, trans_a=True)

    def pull_b(g):
        g = g.T if transposed else g
        return multiply(g, a * a.dtype.type(scale), trans_b=True)

    return total, (lambda g: g, pull_a, pull_b)


def _check(name, inputs, weight, a, b):
    if weight != (len(b), inputs) or a.shape != (b.shape[1], inputs):
        raise ShapeError(
            f"{name}: {inputs} features, a weight {weight}, a {a.shape} and b {b.shape} do not fit",
            hint="weight is (out, in), a (rank, in), b (out, rank)",
        )
