"""Affine maps."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

from entrenar_core.autograd import Parameter, Tensor, ops
from entrenar_core.nn.module import Module
from entrenar_core.nn.parameter import new_parameter


class Projection(Module, ABC):
    """A module that multiplies its input by a matrix `weight`.

    An operation that is fused with the projection must not be used unless it is `fusible`.
    """

    weight: Parameter
    bias: Parameter | None
    output_axis: ClassVar[int]
    """The axis of `weight` that the outputs have."""
    on_input: Callable[[Tensor], Tensor] | None = None
    """What is done to each input first, such as looking at its range."""
    adapters: Any = None
    """Low-rank updates of the weight, which then compute what the module does: see `lora`."""
    copy: Tensor | None = None
    """What is multiplied by instead of a weight that others use as it is: a copy in few bits."""

    @property
    def factor(self) -> Tensor:
        """What is multiplied by: the weight, or its copy."""
        return self.weight if self.copy is None else self.copy

    @property
    def fusible(self) -> bool:
        """Whether the module does nothing but multiply by its weight and add its bias."""
        return self.on_input is None and self.adapters is None

    @property
    def effective_weight(self) -> Tensor:
        """The weight with its updates, for those that use it without the module."""
        return self.factor if self.adapters is None else self.adapters.weight(self.weight)

    def arriving(self, x: Tensor) -> Tensor:
        """The input x as it is multiplied."""
        return x if self.on_input is None else self.on_input(x)

    @abstractmethod
    def affine(self, x: Tensor, residual: Tensor | None) -> Tensor:
        """x times the weight, plus the bias and the residual where there are such."""

    def __call__(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """x (..., in) → (..., out), plus `residual` (..., out) if there is one."""
        x = self.arriving(x)
        if self.adapters is not None:
            return self.adapters.project(self, x, residual)
        return self.affine(x, residual)


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

    def affine(self, x: Tensor, residual: Tensor | None) -> Tensor:
        return ops.linear(x, self.factor, self.bias, residual)

    def after_swiglu(self, gate: Tensor, up: Tensor, residual: Tensor | None = None) -> Tensor:
        """Of silu(gate)·up, both (..., in): fused, so that the product is not kept."""
        if not self.fusible:
            return self(ops.swiglu(gate, up), residual)
        return ops.swiglu_linear(gate, up, self.weight, self.bias, residual)
