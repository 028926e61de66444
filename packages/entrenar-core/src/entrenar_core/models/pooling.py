"""One vector for a sequence: how the hidden states of an encoder become a sentence embedding."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from entrenar_common.errors import ConfigError, ShapeError
from entrenar_core.autograd import Tensor, ops
from entrenar_core.models.forward import as_mask

SMALLEST_NORM = 1e-12
"""A vector shorter than this is divided by this instead of its length."""


@dataclass(frozen=True)
class Pooling:
    """Hidden states (B, T, D) and their mask (B, T) → embeddings (B, D).

    `mode` is "mean", "max" (of each element) or "cls" (the first position), over the positions
    that count. With `normalise`, each embedding is divided by its length.
    Source: Reimers and Gurevych 2019, arXiv:1908.10084, §3.

    Raises ConfigError for another mode, and ShapeError for a sequence without any position.
    """

    mode: str = "mean"
    normalise: bool = False

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ConfigError(
                f"pooling of mode {self.mode!r}", hint=f"one of {', '.join(sorted(MODES))}"
            )

    def __call__(self, hidden: Tensor, mask: np.ndarray | None = None) -> Tensor:
        batch, time, _ = hidden.shape
        counted = as_mask(mask, batch, time)
        empty = np.flatnonzero(~counted.any(axis=1)) if counted is not None else []
        if time == 0 or len(empty):
            raise ShapeError(
                f"pooling: sequence {0 if time == 0 else empty[0]} of {batch} has no position "
                "that counts",
                hint="an embedding needs at least one token",
            )
        pooled = MODES[self.mode](hidden, counted)
        return normalised(pooled) if self.normalise else pooled


def normalised(x: Tensor) -> Tensor:
    """Each row of x (B, D) divided by its Euclidean length, or by 1e-12 where that is more."""
    # the square root has no gradient at 0, so the bound is put on the square
    square = ops.maximum(ops.sum(x * x, axis=-1, keepdims=True), SMALLEST_NORM**2)
    return x / ops.sqrt(square)


def _mean(hidden: Tensor, mask: np.ndarray | None) -> Tensor:
    if mask is None:
        return ops.mean(hidden, axis=1)
    share = mask / mask.sum(axis=1, keepdims=True)  # (B, T)
    return ops.sum(hidden * share.astype(hidden.dtype)[:, :, None], axis=1)


def _max(hidden: Tensor, mask: np.ndarray | None) -> Tensor:
    if mask is not None:
        hidden = ops.where(mask[:, :, None], hidden, np.asarray(-np.inf, hidden.dtype))
    return ops.max(hidden, axis=1)


def _first(hidden: Tensor, mask: np.ndarray | None) -> Tensor:
    batch, time, width = hidden.shape
    first = np.zeros(batch, np.intp) if mask is None else mask.argmax(axis=1)
    rows = ops.reshape(hidden, (batch * time, width))
    return ops.embedding(rows, np.arange(batch) * time + first)


MODES: dict[str, Callable[[Tensor, np.ndarray | None], Tensor]] = {
    "cls": _first, "max": _max, "mean": _mean,
}  # fmt: skip
"""Name in a config → how it pools."""
