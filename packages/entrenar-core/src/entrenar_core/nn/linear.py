"""An affine map."""

import numpy as np

from entrenar_core.autograd import Parameter, Tensor, ops
from entrenar_core.nn.module import Module


class Linear(Module):
    """y = x Wᵀ + b with `weight` (out_features, in_features) and `bias` (out_features,) or None.

    The memory is uninitialised until weights are loaded or drawn.
    """

    def __init__(self, in_features: int, out_features: int, *, bias: bool, dtype: str):
        self.weight = Parameter(np.empty((out_features, in_features), dtype))
        self.bias = Parameter(np.empty(out_features, dtype)) if bias else None

    @property
    def in_features(self) -> int:
        return self.weight.shape[1]

    @property
    def out_features(self) -> int:
        return self.weight.shape[0]

    def __call__(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """x (..., in) → (..., out), plus `residual` (..., out) if there is one."""
        return ops.linear(x, self.weight, self.bias, residual)
