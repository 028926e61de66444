"""Affine maps."""

from entrenar_core.autograd import Tensor, ops
from entrenar_core.nn.module import Module
from entrenar_core.nn.parameter import new_parameter


class Linear(Module):
    """y = x Wᵀ + b with `weight` (out_features, in_features) and `bias` (out_features,) or None.

    The memory is uninitialised until weights are loaded or drawn.
    """

    def __init__(self, in_features: int, out_features: int, *, bias: bool, dtype: str):
        self.weight = new_parameter((out_features, in_features), dtype)
        self.bias = new_parameter((out_features,), dtype) if bias else None

    @property
    def in_features(self) -> int:
        return self.weight.shape[1]

    @property
    def out_features(self) -> int:
        return self.weight.shape[0]

    def __call__(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """x (..., in) → (..., out), plus `residual` (..., out) if there is one."""
        return ops.linear(x, self.weight, self.bias, residual)
