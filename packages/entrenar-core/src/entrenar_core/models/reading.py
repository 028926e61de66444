"""How a model is read for a loss or a score: what it sees, and where it predicts which ids.

A decoder predicts the next id at every position, a masked language model ids at the few positions
that were chosen. What is made of the predictions is the same for both.
"""

from typing import Any, NamedTuple, Protocol

import numpy as np

from entrenar_core.autograd import Tensor
from entrenar_core.models.features import Selected, Wanted


class Predictions(NamedTuple):
    """What logits are made of, rows Wᵀ + bias, and the id that is wanted at each of the rows.

    rows (..., D), targets (...,), negative where nothing is wanted; weight (V, D); bias (V,) or
    None.
    """

    rows: Tensor
    targets: np.ndarray
    weight: Tensor
    bias: Tensor | None = None


class Rows(Protocol):
    """What a model is given: ids (B, T), integers; mask (B, T), the positions that are no padding,
    or None for all; segments (B, T), whose equal neighbours are one document, which is kept apart
    from others, or None."""

    @property
    def ids(self) -> np.ndarray: ...
    @property
    def mask(self) -> np.ndarray | None: ...
    @property
    def segments(self) -> np.ndarray | None: ...


class Reading(Protocol):
    """How models of a kind are read."""

    def positions(self, model: Any) -> int:
        """How long a row can be."""
        ...

    def states(self, model: Any, rows: Rows) -> Tensor:
        """The last hidden states (B, T, D)."""
        ...

    def select(self, model: Any, rows: Rows, wanted: Wanted) -> Selected:
        """What is `wanted` of the same pass; its last hidden states are those of `states`."""
        ...

    def predictions(self, model: Any, states: Tensor, labels: np.ndarray) -> Predictions:
        """What the model's head makes of its last hidden states (B, T, D), for labels (B, T) that
        are negative where nothing is to be predicted."""
        ...


class _Causal:
    """In rows that are padded behind, no position sees the padding: the mask is of no use."""

    def positions(self, model: Any) -> int:
        return model.config.max_position_embeddings

    def states(self, model: Any, rows: Rows) -> Tensor:
        return model.hidden(rows.ids, documents=rows.segments)

    def select(self, model: Any, rows: Rows, wanted: Wanted) -> Selected:
        return model.select_features(rows.ids, wanted, documents=rows.segments)

    def predictions(self, model: Any, states: Tensor, labels: np.ndarray) -> Predictions:
        return Predictions(states, labels, model.output_weight)


class _Masked:
    def positions(self, model: Any) -> int:
        return model.config.positions

    def states(self, model: Any, rows: Rows) -> Tensor:
        return model.encoder.hidden(rows.ids, rows.mask, documents=rows.segments)

    def select(self, model: Any, rows: Rows, wanted: Wanted) -> Selected:
        return model.select_features(rows.ids, wanted, rows.mask, documents=rows.segments)

    def predictions(self, model: Any, states: Tensor, labels: np.ndarray) -> Predictions:
        rows, targets = model.predicting(states, labels)  # (N, D), (N,)
        return Predictions(rows, targets, model.output_weight, model.output_bias)


CAUSAL: Reading = _Causal()
"""Decoders: the label of a position is the id after it."""

MASKED: Reading = _Masked()
"""Masked language models: the label of a position is the id that belongs there. The head is applied
to the positions with a label alone."""
