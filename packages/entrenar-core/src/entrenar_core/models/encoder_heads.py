"""Heads on encoders: masked language modelling and the classification of sequences."""

from abc import abstractmethod
from pathlib import Path
from typing import ClassVar

import numpy as np

from entrenar_common.errors import ConfigError, ShapeError
from entrenar_core.autograd import Parameter, Tensor, ops
from entrenar_core.models.encoder import EncoderHead
from entrenar_core.nn import Linear, new_parameter


class MaskedLM(EncoderHead):
    """Predicts the id at every position: ids (B, T) → logits (B, T, V)."""

    lone_bias: ClassVar[str] = ""
    """The name of a bias besides the decoder's, with which it is tied if the embeddings are."""

    @abstractmethod
    def transform(self, states: Tensor) -> Tensor:
        """What comes between the encoder's states (..., D) and the output projection."""

    @property
    @abstractmethod
    def decoder(self) -> Linear:
        """The output projection, which makes logits of `hidden`."""

    @property
    def output_weight(self) -> Tensor:
        """The weight (V, D) of the output projection."""
        return self.decoder.effective_weight

    @property
    def output_bias(self) -> Parameter | None:
        """The bias (V,) of the output projection."""
        return self.decoder.bias

    def __call__(
        self,
        ids: np.ndarray,
        mask: np.ndarray | None = None,
        token_type_ids: np.ndarray | None = None,
    ) -> Tensor:
        return self.decoder(self.hidden(ids, mask, token_type_ids))

    def hidden(
        self,
        ids: np.ndarray,
        mask: np.ndarray | None = None,
        token_type_ids: np.ndarray | None = None,
        *,
        documents: np.ndarray | None = None,
    ) -> Tensor:
        """The transformed states (B, T, D), of which `decoder` makes logits."""
        states = self.encoder.hidden(ids, mask, token_type_ids, documents=documents)
        return self.transform(states)

    def loss(
        self,
        ids: np.ndarray,
        labels: np.ndarray,
        mask: np.ndarray | None = None,
        token_type_ids: np.ndarray | None = None,
        *,
        normalizer: float | None = None,
    ) -> Tensor:
        """Σ −log p(label) over the positions whose label is not negative, / normalizer.

        labels (B, T) → scalar. `normalizer` is by default the number of those positions, at least
        1. The head is applied to them alone: in masked language modelling they are few.
        Source: Devlin et al. 2018, arXiv:1810.04805, §3.1.
        """
        _check_labels(labels, ids.shape)
        rows, targets = self.predicting(self.encoder.hidden(ids, mask, token_type_ids), labels)
        return ops.linear_cross_entropy(
            rows, self.output_weight, targets, self.output_bias,
            normalizer=normalizer or max(len(targets), 1),
        )  # fmt: skip

    def predicting(self, states: Tensor, labels: np.ndarray) -> tuple[Tensor, np.ndarray]:
        """The transformed states (N, D) at the N positions whose label is not negative, row by row,
        and these labels (N,), of the encoder's states (B, T, D) and labels (B, T)."""
        flat = labels.reshape(-1)
        chosen = np.flatnonzero(flat >= 0)  # (N,)
        rows = ops.reshape(states, (flat.size, states.shape[-1]))
        if len(chosen) < flat.size:
            rows = ops.embedding(rows, chosen)  # (N, D)
        return self.transform(rows), flat[chosen]

    def prepare(self, folder: Path, names: dict[str, str]) -> None:
        """Of an untied output projection, take the one bias that counts."""
        super().prepare(folder, names)
        if not self.config.tie_word_embeddings and self.lone_bias in names:
            stored = names.pop(self.lone_bias)
            names.setdefault(self.lone_bias.removesuffix("bias") + "decoder.bias", stored)


def output_projection(words: Parameter, tied: bool) -> tuple[Parameter | None, Linear]:
    """A bias (V,) and the projection (V, D) that uses it and the word embeddings; untied, the
    projection has its own weight and bias, and the first is None."""
    (rows, width), dtype = words.shape, words.dtype.name
    decoder = Linear(width, rows, bias=not tied, dtype=dtype)
    if tied:
        decoder.weight, decoder.bias = words, new_parameter((rows,), dtype)
    return (decoder.bias if tied else None), decoder


class SequenceClassification(EncoderHead):
    """Classifies whole sequences, or fits numbers to them: ids (B, T) → logits (B, labels)."""

    @abstractmethod
    def classify(self, states: Tensor) -> Tensor:
        """Logits (B, labels) of the encoder's last hidden states (B, T, D)."""

    def __call__(
        self,
        ids: np.ndarray,
        mask: np.ndarray | None = None,
        token_type_ids: np.ndarray | None = None,
    ) -> Tensor:
        return self.classify(self.hidden(ids, mask, token_type_ids))

    def from_hidden(self, hidden: Tensor, ids: np.ndarray, mask: np.ndarray | None) -> Tensor:
        """The logits (B, labels) of the encoder's last hidden states (B, T, D) of `ids`."""
        del ids, mask
        return self.classify(hidden)

    def hidden(
        self,
        ids: np.ndarray,
        mask: np.ndarray | None = None,
        token_type_ids: np.ndarray | None = None,
    ) -> Tensor:
        """The encoder's last hidden states (B, T, D)."""
        return self.encoder.hidden(ids, mask, token_type_ids)

    def loss(
        self,
        ids: np.ndarray,
        labels: np.ndarray,
        mask: np.ndarray | None = None,
        token_type_ids: np.ndarray | None = None,
    ) -> Tensor:
        """The mean loss of the config's `problem_type`.

        "single_label_classification": cross-entropy, labels are class numbers (B,);
        "multi_label_classification": binary cross-entropy of every logit, labels are 0 and 1 of
        shape (B, labels); "regression": squared error, labels are numbers (B, labels), or (B,) if
        there is one. Without a `problem_type`: regression for one label, else the first of these
        that takes such labels.
        """
        logits = self(ids, mask, token_type_ids)
        return LOSSES[self.config.problem_type or self._problem(labels)](logits, labels)

    def _problem(self, labels: np.ndarray) -> str:
        if self.config.label_count == 1:
            return "regression"
        integers = labels.dtype.kind in "iu"
        return "single_label_classification" if integers else "multi_label_classification"


def _single_label(logits: Tensor, labels: np.ndarray) -> Tensor:
    batch, classes = logits.shape
    if labels.shape != (batch,) or labels.dtype.kind not in "iu":
        raise ShapeError(
            f"labels {labels.dtype} {labels.shape} for {batch} sequences of one class each",
            hint=f"give integers of shape ({batch},)",
        )
    if labels.size and labels.max() >= classes:
        raise ConfigError(
            f"label {labels.max()} for a head of {classes} classes",
            hint="set num_labels, or id2label, in config.json",
        )
    return ops.cross_entropy(logits, labels)


def _multi_label(logits: Tensor, labels: np.ndarray) -> Tensor:
    return ops.binary_cross_entropy_with_logits(logits, _like(logits, labels))


def _regression(logits: Tensor, labels: np.ndarray) -> Tensor:
    return ops.mse(logits, _like(logits, labels))


LOSSES = {
    "single_label_classification": _single_label,
    "multi_label_classification": _multi_label,
    "regression": _regression,
}
"""`problem_type` → loss of logits (B, labels) and labels."""


def _like(logits: Tensor, labels: np.ndarray) -> np.ndarray:
    """`labels` as floats of the logits' shape."""
    shape = labels.shape if labels.ndim != 1 or logits.shape[1] != 1 else (len(labels), 1)
    if shape != logits.shape:
        raise ShapeError(
            f"labels {labels.shape} for logits {logits.shape}",
            hint="give a number for every logit",
        )
    return labels.reshape(shape).astype(logits.dtype)


def _check_labels(labels: np.ndarray, shape: tuple[int, ...]) -> None:
    if labels.shape != shape or labels.dtype.kind != "i":
        raise ShapeError(
            f"labels {labels.dtype} {labels.shape} for ids {shape}",
            hint="give a signed integer for each id, negative where nothing is to be predicted",
        )
