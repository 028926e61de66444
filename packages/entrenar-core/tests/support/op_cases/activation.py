"""`ops.activation`."""

from entrenar_core.autograd import ops
from op_cases import case, normal


def _swiglu_linear(t, gate, up, weight, bias=None, residual=None):
    y = t.nn.functional.linear(t.nn.functional.silu(gate) * up, weight, bias)
    return y if residual is None else y + residual


CASES = [
    case(
        "swiglu_linear",
        ops.swiglu_linear,
        normal(2, 3, 5),
        normal(2, 3, 5),
        normal(4, 5),
        torch=_swiglu_linear,
    ),
    case(
        "swiglu_linear",
        ops.swiglu_linear,
        normal(3, 5),
        normal(3, 5),
        normal(4, 5),
        normal(4),
        normal(3, 4),
        torch=_swiglu_linear,
    ),
]
