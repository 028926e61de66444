"""A table of vectors."""

import numpy as np

from entrenar_core.autograd import Parameter, Tensor, ops
from entrenar_core.nn.module import Module


class Embedding(Module):
    """Rows of `weight` (rows, width) by integer index."""

    def __init__(self, rows: int, width: int, *, dtype: str):
        self.weight = Parameter(np.empty((rows, width), dtype))

    def __call__(self, ids: np.ndarray) -> Tensor:
        """ids (...,) → (..., width)."""
        return ops.embedding(self.weight, ids)
