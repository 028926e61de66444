"""A table of vectors."""

import numpy as np

from entrenar_core.autograd import Tensor, ops
from entrenar_core.nn.module import Module
from entrenar_core.nn.parameter import new_parameter


class Embedding(Module):
    """Rows of `weight` (rows, width) by integer index; the row `padding` gets no gradient."""

    def __init__(self, rows: int, width: int, *, dtype: str, padding: int | None = None):
        self.weight = new_parameter((rows, width), dtype)
        self.padding = padding

    def __call__(self, ids: np.ndarray) -> Tensor:
        """ids (...,) → (..., width)."""
        return ops.embedding(self.weight, ids, padding_idx=self.padding)
