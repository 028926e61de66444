"""The differentiable operations, and the operators of `Tensor` that use them."""

from ..tensor import Tensor
from .activation import swiglu_linear as swiglu_linear
from .attention import attention as attention
from .attention import rope as rope
from .elementwise import add as add
from .elementwise import div as div
from .elementwise import mul as mul
from .elementwise import sub as sub
from .loss import DistillationParts as DistillationParts
from .loss import linear_cross_entropy as linear_cross_entropy
from .loss import linear_distillation as linear_distillation
from .matmul import embedding as embedding
from .matmul import linear as linear
from .norm import rms_norm as rms_norm
from .shape import reshape as reshape
from .reduce import mean as mean
from .reduce import sum as sum

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
