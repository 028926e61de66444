"""What several teachers expect together: the weighted mean of their probabilities."""

from collections.abc import Sequence

import numpy as np

from entrenar_common.errors import ShapeError
from entrenar_core import kernels
from entrenar_core.autograd.ops.expected import FromHidden
from entrenar_core.kernels.divergences import Divergence


class Mixed:
    """p = Σ wₖ·softmax(zₖ/T) of the teachers' logits zₖ, at the temperature of the divergence.

    Σ wₖ is 1; only the first `shared` ids are compared. For a chunk of positions there are the
    logits of one teacher at a time, and one array that they are added up in. As logits a mixture is
    T·log p, which is what a divergence of logits (mse) compares.
    """

    def __init__(self, parts: Sequence[FromHidden], weights: Sequence[float], *, shared: int):
        self._parts, self._weights, self._shared = tuple(parts), tuple(weights), shared
        self._scratch = np.empty((0, shared), np.float32)
        self._logits = np.empty(0, np.float32)

    def check(self, positions: int, vocabulary: int) -> None:
        """Raise ShapeError unless each teacher's positions and ids fit, and each has a weight."""
        if not self._parts or len(self._parts) != len(self._weights):
            raise ShapeError(
                f"{len(self._weights)} weights for {len(self._parts)} teachers",
                hint="give one weight for each, at least one",
            )
        for part in self._parts:
            part.check(positions, vocabulary)

    def compare(
        self,
        logits: np.ndarray,
        chunk: slice,
        targets: np.ndarray,
        *,
        divergence: Divergence,
        alpha: float,
        scale: float,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        count = len(logits)
        mixture = self._begun(count, logits.dtype)
        for part, weight in zip(self._parts, self._weights, strict=True):
            out = self._logits[: count * part.width].reshape(count, part.width)
            found = part.logits(chunk, out.astype(part.dtype, copy=False))
            kernels.add_to_mixture(
                mixture,
                found.astype(logits.dtype, copy=False),
                weight=weight,
                temperature=divergence.temperature,
            )
        return kernels.distillation_grad(
            logits, mixture, targets, divergence=divergence, alpha=alpha,
            shared=self._shared, scale=scale,
        )  # fmt: skip

    def _begun(self, count: int, dtype: np.dtype) -> np.ndarray:
        """A mixture of nothing yet, and memory for the logits of one teacher."""
        if len(self._scratch) < count or self._scratch.dtype != dtype:
            widest = max(part.width for part in self._parts)
            self._scratch = np.empty((count, self._shared), dtype)
            self._logits = np.empty(count * widest, self._parts[0].dtype)
        out = self._scratch[:count]
        out[...] = -np.inf
        return out
