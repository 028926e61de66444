"""Affine maps."""

from collections.abc import Callable
from typing import ClassVar

from entrenar_core.autograd import Parameter, Tensor, ops
from entrenar_core.nn.module import Module
from entrenar_core.nn.parameter import new_parameter


class Projection(Module):
    """A module that multiplies its input by a matrix `weight`.

    An operation that is fused with the projection must not be used while there is an `on_input`.
    """

    weight: Parameter
    output_axis: ClassVar[int]
    """The axis of `weight` that the outputs have."""
    on_input: Callable[[Tensor], Tensor] | None = None
    """What is done to each input first, such as looking at its range."""

    def arriving(self, x: Tensor) -> Tensor:
        """The input x as it is multiplied."""
        return x if self.on_input is None else self.on_input(x)


class Linear(Projection):
    """y = x Wᵀ + b with `weight` (out_features, in_features) and `bias` (out_features,) or None.

    The memory is uninitialised until weights are loaded or drawn.
    """

    output_axis = 0

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
        return ops.linear(self.arriving(x), self.weight, self.bias, residual)

    def after_swiglu(self, gate: Tensor, up: Tensor, residual: Tensor | None = None) -> Tensor:
        """Of silu(gate)·up, both (..., in): fused, so that the product is not kept."""
        if self.on_input is not None:
            return self(ops.swiglu(gate, up), residual)
        return ops.swiglu_linear(gate, up, self.weight, self.bias, residual)
