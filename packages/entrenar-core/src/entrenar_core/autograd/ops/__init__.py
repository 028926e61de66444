"""The differentiable operations, and the operators of `Tensor` that use them."""

from entrenar_core.autograd.ops.activation import swiglu_linear as swiglu_linear
from entrenar_core.autograd.ops.attention import attention as attention
from entrenar_core.autograd.ops.attention import rope as rope
from entrenar_core.autograd.ops.elementwise import add as add
from entrenar_core.autograd.ops.elementwise import div as div
from entrenar_core.autograd.ops.elementwise import mul as mul
from entrenar_core.autograd.ops.elementwise import sub as sub
from entrenar_core.autograd.ops.loss import DistillationParts as DistillationParts
from entrenar_core.autograd.ops.loss import linear_cross_entropy as linear_cross_entropy
from entrenar_core.autograd.ops.loss import linear_distillation as linear_distillation
from entrenar_core.autograd.ops.matmul import embedding as embedding
from entrenar_core.autograd.ops.matmul import linear as linear
from entrenar_core.autograd.ops.norm import rms_norm as rms_norm
from entrenar_core.autograd.ops.reduce import mean as mean
from entrenar_core.autograd.ops.reduce import sum as sum  # noqa: A004
from entrenar_core.autograd.ops.shape import reshape as reshape
from entrenar_core.autograd.tensor import Tensor

_OPERATORS = {
    "__add__": add,
    "__radd__": lambda x, y: add(y, x),
    "__sub__": sub,
    "__rsub__": lambda x, y: sub(y, x),
    "__mul__": mul,
    "__rmul__": lambda x, y: mul(y, x),
    "__truediv__": div,
    "__rtruediv__": lambda x, y: div(y, x),
    "__neg__": lambda x: mul(x, -1.0),
    "sum": sum,
    "mean": mean,
    "reshape": reshape,
}
for _name, _function in _OPERATORS.items():
    setattr(Tensor, _name, _function)
