"""What a teacher expects at the positions of a batch, and how student logits compare with it."""

from typing import Any, Protocol

import numpy as np

from entrenar_common.errors import ShapeError
from entrenar_core import kernels
from entrenar_core.autograd import observe
from entrenar_core.autograd.precision import products
from entrenar_core.kernels.divergences import Divergence


class Expected(Protocol):
    """A teacher's predictions for the N positions of a batch, in their order.

    `linear_distillation` takes the positions from the first to the last, a chunk at a time.
    """

    def check(self, positions: int, vocabulary: int) -> None:
        """Raise ShapeError unless it is about `positions` positions, and about ids that a student
        of `vocabulary` ids has."""
        ...

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
        """Cross-entropy, divergence and agreement (n,) of the student's logits (n, V) at the
        positions `chunk`; the logits become the gradient of scale·(α·T²·D + (1 − α)·CE), as
        `kernels.distillation_grad` has it."""
        ...


class FromHidden:
    """The logits hidden Wᵀ + bias of a teacher, made for a chunk of positions at a time.

    hidden (..., E), weight (W, E), which may be one that is held in few bits, bias (W,) or None;
    only the first `shared` ids are compared.
    """

    def __init__(
        self, hidden: np.ndarray, weight: Any, *, shared: int, bias: np.ndarray | None = None
    ):
        self._shape = hidden.shape
        self._rows = hidden.reshape(-1, hidden.shape[-1])
        self._weight, self._bias, self._shared = weight, bias, shared
        self._scratch = np.empty((0, len(weight)), hidden.dtype)

    def check(self, positions: int, vocabulary: int) -> None:
        fits = self._rows.shape[1:] == self._weight.shape[1:] and (
            self._bias is None or self._bias.shape == self._weight.shape[:1]
        )
        shared = 0 < self._shared <= min(vocabulary, len(self._weight))
        if not (fits and shared and len(self._rows) == positions):
            extra = "" if self._bias is None else f", bias {self._bias.shape}"
            raise ShapeError(
                f"{self._shared} shared ids, a teacher's hidden {self._shape} and weight "
                f"{self._weight.shape}{extra}, for {positions} positions of a student with "
                f"{vocabulary} ids",
                hint="hidden (..., E) has a row for each position, weight is (W, E), bias (W,); at "
                "most W, and at most the student's ids, are shared",
            )

    @property
    def width(self) -> int:
        """How many ids the teacher has, W."""
        return len(self._weight)

    @property
    def dtype(self) -> np.dtype:
        """What its logits are."""
        return self._rows.dtype

    def logits(self, chunk: slice, out: np.ndarray | None = None) -> np.ndarray:
        """The logits (n, W) at the positions `chunk`, in `out`; without it, in memory that the next
        call overwrites."""
        count = chunk.stop - chunk.start
        if out is None:
            if len(self._scratch) < count:
                self._scratch = np.empty((count, self.width), self.dtype)
            out = self._scratch[:count]
        if self._bias is not None:
            out[...] = self._bias
        add = self._bias is not None

        def product(rows: Any, weight: Any) -> tuple[Any, None]:
            return products().matmul(rows, weight, trans_b=True, out=out, add=add), None

        # told of by itself: it is the teacher's part of what the student's loss takes
        given = (self._rows[chunk], self._weight)
        (found, _), _ = observe.forward("teacher_logits", product, given, {}, (False, False))
        return found

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
        expected = self.logits(chunk).astype(logits.dtype, copy=False)
        return kernels.distillation_grad(
            logits, expected, targets, divergence=divergence, alpha=alpha,
            shared=self._shared, scale=scale,
        )  # fmt: skip
