"""A table of vectors."""

from typing import Any

import numpy as np

from entrenar_core.autograd import Tensor, ops
from entrenar_core.nn.module import Module
from entrenar_core.nn.parameter import new_parameter


class Embedding(Module):
    """Rows of `weight` (rows, width) by integer index; the row `padding` gets no gradient."""

    adapters: Any = None
    """Low-rank updates of the weight, which then compute what the module does: see `lora`."""

    def __init__(self, rows: int, width: int, *, dtype: str, padding: int | None = None):
        self.weight = new_parameter((rows, width), dtype)
        self.padding = padding

    def __call__(self, ids: np.ndarray) -> Tensor:
        """ids (...,) → (..., width)."""
        if self.adapters is not None:
            return self.adapters.look_up(self, ids)
        return ops.embedding(self.weight, ids, padding_idx=self.padding)
