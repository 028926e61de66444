"""Tensors that remember how they were computed, and the walk back."""

from .op import no_grad as no_grad
from .op import op as op
from .tape import backward as backward
from .tensor import Parameter as Parameter
from .tensor import Tensor as Tensor
