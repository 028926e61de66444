"""Normalisation with a learned scale."""

import numpy as np

from entrenar_core.autograd import Parameter, Tensor, ops
from entrenar_core.nn.module import Module


class RMSNorm(Module):
    """weight · x / √(mean(x²) + eps): Zhang and Sennrich 2019, arXiv:1910.07467."""

    def __init__(self, width: int, *, eps: float, dtype: str):
        self.weight = Parameter(np.empty(width, dtype))
        self.eps = eps

    def __call__(self, x: Tensor) -> Tensor:
        return ops.rms_norm(x, self.weight, eps=self.eps)
