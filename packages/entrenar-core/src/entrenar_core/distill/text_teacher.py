"""What a teacher says about whole texts: read beside the student, or kept from the first time."""

from typing import Any, Protocol

import numpy as np

from entrenar_core.autograd import Tensor, no_grad
from entrenar_core.data.text_batches import TextBatch
from entrenar_core.data.texts import Texts
from entrenar_core.nn import no_dropout

__all__ = ["KeptTextTeacher", "LiveTextTeacher", "TextTeacher", "outputs", "said_about", "type_ids"]

_BLOCK = 32
"""Texts that are read together for keeping."""


class TextTeacher(Protocol):
    """Something that has an opinion on every text of a batch."""

    def expected(self, batch: TextBatch) -> np.ndarray:
        """What it says about the texts: embeddings or logits (B, D)."""
        ...


def type_ids(model: Any, types: np.ndarray | None) -> tuple[np.ndarray, ...]:
    """The further argument of `model` for texts of these types: none where it has one type."""
    several = getattr(model.config, "type_vocab_size", 1) > 1
    return (types,) if types is not None and several else ()


def outputs(model: Any, batch: TextBatch) -> Tensor:
    """What `model` makes of whole texts: embeddings or logits (B, D)."""
    return model(batch.ids, batch.mask, *type_ids(model, batch.types))


class LiveTextTeacher:
    """A model that reads each batch as the student does, without a tape."""

    def __init__(self, model: Any):
        self.model = model

    def expected(self, batch: TextBatch) -> np.ndarray:
        with no_grad(), no_dropout():
            return outputs(self.model, batch).data


class KeptTextTeacher:
    """A model that reads each text once, and whose outputs are kept in memory: for texts that come
    again and again. `fill` is the id of padding.

    Texts of like length are read together, in blocks that are the same in every process: what is
    kept does not depend on the order in which it is asked for.
    """

    def __init__(self, model: Any, texts: Texts, *, fill: int):
        self._model, self._texts, self._fill = model, texts, fill
        order = np.argsort(texts.lengths, kind="stable")
        self._blocks = [order[i : i + _BLOCK] for i in range(0, len(order), _BLOCK)]
        self._block_of = np.empty(len(order), np.int64)
        self._block_of[order] = np.arange(len(order)) // _BLOCK
        self._read = np.zeros(len(self._blocks), bool)
        self._kept: np.ndarray | None = None

    def expected(self, batch: TextBatch) -> np.ndarray:
        return self.of(batch.row_ids)

    def of(self, rows: np.ndarray) -> np.ndarray:
        """What it says about the texts `rows` (B,) of all: (B, D)."""
        for number in np.unique(self._block_of[rows]):
            if not self._read[number]:
                self._keep(int(number))
        assert self._kept is not None
        return self._kept[rows]

    def _keep(self, number: int) -> None:
        rows = self._blocks[number]
        ids, mask, types = self._texts.padded(rows, self._fill)
        with no_grad(), no_dropout():
            found = outputs(self._model, TextBatch(ids, mask, rows, None, types)).data
        if self._kept is None:
            self._kept = np.empty((len(self._texts), found.shape[1]), found.dtype)
        self._kept[rows] = found
        self._read[number] = True


def said_about(model: Any, texts: Texts, fill: int) -> np.ndarray:
    """What `model` says about all `texts`: (texts, D)."""
    return KeptTextTeacher(model, texts, fill=fill).of(np.arange(len(texts)))
