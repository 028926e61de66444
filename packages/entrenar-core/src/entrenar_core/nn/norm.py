"""Normalisations with a learned scale."""

from entrenar_core.autograd import Tensor, ops
from entrenar_core.nn.module import Module
from entrenar_core.nn.parameter import new_parameter


class RMSNorm(Module):
    """weight · x / √(mean(x²) + eps): Zhang and Sennrich 2019, arXiv:1910.07467."""

    def __init__(self, width: int, *, eps: float, dtype: str):
        self.weight = new_parameter((width,), dtype)
        self.eps = eps

    def __call__(self, x: Tensor) -> Tensor:
        return ops.rms_norm(x, self.weight, eps=self.eps)


class LayerNorm(Module):
    """weight · (x − mean(x)) / √(var(x) + eps) + bias: Ba et al. 2016, arXiv:1607.06450."""

    def __init__(self, width: int, *, eps: float, dtype: str):
        self.weight = new_parameter((width,), dtype)
        self.bias = new_parameter((width,), dtype)
        self.eps = eps

    def __call__(self, x: Tensor) -> Tensor:
        return ops.layer_norm(x, self.weight, self.bias, eps=self.eps)
