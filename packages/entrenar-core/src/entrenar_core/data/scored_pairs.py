"""Rows with two texts and a number that says how alike they are, as data sets of semantic textual
similarity have them."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from entrenar_core.data.readers import Document, Item, Row, bad, document_of, kind_of
from entrenar_core.data.row_kinds import Convert
from entrenar_core.data.sources import DatasetSpec, list_files, read_documents
from entrenar_core.data.texts import Texts, texts_of
from entrenar_core.data.tokenizer import Tokenizer

__all__ = ["ScoredPairs", "ScoredTexts", "read_scored_pairs"]


@dataclass(frozen=True)
class ScoredPairs:
    """Rows with a text, a second one, and a finite number, which may be written as text."""

    text_field: str
    pair_field: str
    score_field: str
    answers_only: bool = False
    closed: bool = False

    def fields(self) -> dict[str, str]:
        return {
            "text_field": self.text_field,
            "text_pair_field": self.pair_field,
            "label_field": self.score_field,
        }

    def key(self, tokenizer: Tokenizer) -> Any:
        del tokenizer  # which is a part of every key
        return ["scored pairs", self.text_field, self.pair_field, self.score_field]

    @contextmanager
    def opened(self, tokenizer: Tokenizer) -> Iterator[Convert]:
        del tokenizer
        yield self._document

    def _document(self, row: Row) -> Item:
        fields = (self.text_field, self.pair_field)
        for field in fields:
            text = row.values[field]
            if not isinstance(text, str):
                return bad(f"{row.name}: field {field!a} is {kind_of(text)}, wanted text")
            if not text:
                return bad(f"{row.name}: field {field!a} is empty")
        first, second = (document_of(row, row.values[f], None) for f in fields)
        if not isinstance(first, Document) or not isinstance(second, Document):
            return second if isinstance(first, Document) else first
        score = _number(row.values[self.score_field])
        if score is None:
            return bad(
                f"{row.name}: field {self.score_field!a} is "
                f"{row.values[self.score_field]!a:.40}, wanted a number"
            )
        return replace(first, beside=(second.text, score))


@dataclass(frozen=True, eq=False)
class ScoredTexts:
    """The texts of N pairs, 2·N: the first of every pair, then the second of every pair; and the
    score of each pair, (N,)."""

    texts: Texts
    scores: npt.NDArray[np.float64]


def read_scored_pairs(
    spec: DatasetSpec, tokenizer: Tokenizer, *, max_length: int, pair: str, score: str
) -> ScoredTexts:
    """The pairs of a data set, each text by itself as `read_texts` reads it.

    `pair` is the field of the second text, `score` that of the number. Raises FormatError for a row
    without one of them, and what `iter_documents` raises.
    """
    kind = ScoredPairs(spec.text_field, pair, score)
    asked = replace(spec, rows=kind)
    with kind.opened(tokenizer) as convert:
        first = list(read_documents(list_files(asked), asked, convert=convert))
    second = [replace(each, text=str(each.beside[0])) for each in first]
    return ScoredTexts(
        texts_of([*first, *second], tokenizer, max_length=max_length),
        np.array([each.beside[1] for each in first], np.float64),
    )


def _number(value: Any) -> float | None:
    if type(value) not in (int, float, str):
        return None
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None
