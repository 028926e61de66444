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


class Reading(Protocol):
    """How models of a kind are read. ids (B, T); mask (B, T), the positions that count, or None;
    documents (B, T), which are kept apart where they are given."""

    def positions(self, model: Any) -> int:
        """How long a row can be."""
        ...

    def states(
        self,
        model: Any,
        ids: np.ndarray,
        mask: np.ndarray | None,
        documents: np.ndarray | None = None,
    ) -> Tensor:
        """The last hidden states (B, T, D)."""
        ...

    def select(
        self,
        model: Any,
        ids: np.ndarray,
        wanted: Wanted,
        mask: np.ndarray | None,
        documents: np.ndarray | None = None,
    ) -> Selected:
        """What is `wanted` of the same pass; its last hidden states are those of `states`."""
        ...

    def predictions(self, model: Any, states: Tensor, labels: np.ndarray) -> Predictions:
        """What the model's head makes of its last hidden states (B, T, D), for labels (B, T) that
        are negative where nothing is to be predicted."""
        ...


class _Causal:
    def positions(self, model: Any) -> int:
        return model.config.max_position_embeddings

    def states(
        self,
        model: Any,
        ids: np.ndarray,
        mask: np.ndarray | None,
        documents: np.ndarray | None = None,
    ) -> Tensor:
        # in rows that are padded behind, no position sees the padding
        del mask
        return model.hidden(ids, documents=documents)

    def select(
        self,
        model: Any,
        ids: np.ndarray,
        wanted: Wanted,
        mask: np.ndarray | None,
        documents: np.ndarray | None = None,
    ) -> Selected:
        del mask
        return model.select_features(ids, wanted, documents=documents)

    def predictions(self, model: Any, states: Tensor, labels: np.ndarray) -> Predictions:
        return Predictions(states, labels, model.output_weight)


class _Masked:
    def positions(self, model: Any) -> int:
        return model.config.positions

    def states(
        self,
        model: Any,
        ids: np.ndarray,
        mask: np.ndarray | None,
        documents: np.ndarray | None = None,
    ) -> Tensor:
        return model.encoder.hidden(ids, mask, documents=documents)

    def select(
        self,
        model: Any,
        ids: np.ndarray,
        wanted: Wanted,
        mask: np.ndarray | None,
        documents: np.ndarray | None = None,
    ) -> Selected:
        return model.select_features(ids, wanted, mask, documents=documents)

    def predictions(self, model: Any, states: Tensor, labels: np.ndarray) -> Predictions:
        rows, targets = model.predicting(states, labels)  # (N, D), (N,)
        return Predictions(rows, targets, model.output_weight, model.output_bias)


CAUSAL: Reading = _Causal()
"""Decoders: the label of a position is the id after it."""

MASKED: Reading = _Masked()
"""Masked language models: the label of a position is the id that belongs there. The head is applied
to the positions with a label alone."""
