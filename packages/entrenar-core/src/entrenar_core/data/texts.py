"""Whole texts as token ids, with the special tokens that a model expects around them."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt

from entrenar_common.progress import Progress
from entrenar_core.data.documents import split_indices
from entrenar_core.data.encoding import Encoder
from entrenar_core.data.readers import Value
from entrenar_core.data.row_kinds import TextsBeside
from entrenar_core.data.sources import DatasetSpec, Document, Skips, list_files, read_documents
from entrenar_core.data.tokenizer import Ids, Tokenizer, started

__all__ = ["Texts", "read_texts", "split_texts", "texts_of"]

Int64 = npt.NDArray[np.int64]
Labels = npt.NDArray[Any]
"""What is wanted of each text: the number of its class, int64 (N,), or a number, float64 (N,)."""

_AT_ONCE = 4096


@dataclass(frozen=True, eq=False)
class Texts:
    """Texts, or pairs of texts, as rows of ids of at most `max_length`, special tokens included.

    names:       what each is called, (N,)
    tokens:      the ids of all of them, int32, end to end
    types:       which text of a pair each id is of, 0 or 1, uint8; None where there are no pairs
    starts, lengths: the slice of each, int64 (N,)
    labels:      the class of each, int64 (N,), or a number, float64 (N,); None where there are none
    shortened:   whether each was cut to max_length, booleans (N,)
    fingerprint: a hash of names, ids, types and labels: equal for equal data
    skips:       the bad rows that were left out
    revision:    the commit of a dataset on the hub; None for files
    """

    names: Sequence[str]
    tokens: Ids
    types: npt.NDArray[np.uint8] | None
    starts: Int64
    lengths: Int64
    labels: Labels | None
    shortened: npt.NDArray[np.bool_]
    fingerprint: str
    skips: Skips = field(default_factory=Skips)
    revision: str | None = None

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def total_tokens(self) -> int:
        """The ids of all texts together."""
        return int(self.lengths.sum())

    def select(self, indices: Sequence[int] | npt.NDArray[np.integer[Any]]) -> "Texts":
        """The texts at `indices`, in that order; the ids are shared, not copied."""
        chosen = np.asarray(indices, dtype=np.int64)
        digest = hashlib.sha256(self.fingerprint.encode() + chosen.astype("<i8").tobytes())
        return replace(
            self,
            names=[self.names[index] for index in chosen],
            starts=self.starts[chosen],
            lengths=self.lengths[chosen],
            labels=None if self.labels is None else self.labels[chosen],
            shortened=self.shortened[chosen],
            fingerprint=digest.hexdigest(),
        )

    def padded(self, rows: Int64, fill: int) -> tuple[Int64, npt.NDArray[np.bool_], Int64 | None]:
        """ids, mask and types (B, T) of some rows, as long as the longest, padded behind with
        `fill` and type 0; types are None where there are no pairs."""
        lengths = self.lengths[rows]
        mask = np.arange(lengths.max()) < lengths[:, None]  # (B, T)
        places = (self.starts[rows][:, None] + np.arange(mask.shape[1]))[mask]
        ids = np.full(mask.shape, fill, np.int64)
        ids[mask] = self.tokens[places]
        if self.types is None:
            return ids, mask, None
        types = np.zeros(mask.shape, np.int64)
        types[mask] = self.types[places]
        return ids, mask, types


def read_texts(
    spec: DatasetSpec,
    tokenizer: Tokenizer,
    *,
    max_length: int,
    pair: str | None = None,
    label: str | None = None,
    number: Callable[[Sequence[Value]], Labels] | None = None,
    any_number: bool = False,
    progress: Progress | None = None,
) -> Texts:
    """The texts of a dataset as ids, one row for each document, with the template's special tokens
    and no more than `max_length` ids: longer ones are cut as transformers cuts them.

    `pair` is the field with the second text of each row; `label` that with its class, and `number`
    makes labels (N,) of those values, which with `any_number` need not be whole numbers where they
    are no texts. Raises what `iter_documents` and `number` raise.
    """
    named = (("text_pair_field", pair), ("label_field", label))
    beside = tuple((setting, name) for setting, name in named if name is not None)
    kind = TextsBeside(spec.text_field, beside, any_number) if beside else None
    asked = replace(spec, rows=kind)
    sources, skips = list_files(asked), Skips()
    rows = _Rows(tokenizer, max_length, pair is not None)
    values: list[Value] = []
    total = sum(source.size for source in sources)
    opened = nullcontext() if kind is None else kind.opened(tokenizer)
    with started(progress, "tokenize", total) as meter, opened as convert:
        for chunk in _chunks(read_documents(sources, asked, skips=skips, convert=convert)):
            rows.add(chunk)
            if label is not None:
                values += [document.beside[-1] for document in chunk]
            meter.advance(sum(document.source_bytes for document in chunk))
    labels = number(values) if number is not None else None
    return replace(rows.texts(labels, skips), revision=sources[0].revision)


def texts_of(documents: Sequence[Document], tokenizer: Tokenizer, *, max_length: int) -> Texts:
    """The texts of `documents` as ids, each as `read_texts` reads it."""
    rows = _Rows(tokenizer, max_length, pairs=False)
    rows.add(documents)
    return rows.texts(None, Skips())


def split_texts(texts: Texts, held_out_share: float, seed: int) -> tuple[Texts, Texts]:
    """The texts for training and those held out, chosen as `documents.split` chooses documents.
    Raises what it raises."""
    kept, held_out = split_indices(len(texts), held_out_share, seed)
    return texts.select(kept), texts.select(held_out)


def _chunks(documents: Iterator[Document]) -> Iterator[list[Document]]:
    while chunk := list(islice(documents, _AT_ONCE)):
        yield chunk


class _Rows:
    """Gathers the rows while the documents are read."""

    def __init__(self, tokenizer: Tokenizer, max_length: int, pairs: bool) -> None:
        self._encode = Encoder(tokenizer, max_length=max_length, pairs=pairs)
        self._pairs = pairs
        self._names: list[str] = []
        self._ids: list[Ids] = []
        self._types: list[npt.NDArray[np.uint8]] = []
        self._shortened: list[bool] = []

    def add(self, chunk: Sequence[Document]) -> None:
        seconds = [str(document.beside[0]) for document in chunk] if self._pairs else None
        for row in self._encode([document.text for document in chunk], seconds):
            self._ids.append(row.ids)
            self._shortened.append(row.shortened)
            if self._pairs:
                self._types.append(row.types)
        self._names.extend(document.name for document in chunk)

    def texts(self, labels: Labels | None, skips: Skips) -> Texts:
        lengths = np.array([len(ids) for ids in self._ids], np.int64)
        tokens = np.concatenate(self._ids).astype("<i4")
        types = np.concatenate(self._types) if self._pairs else None
        digest = hashlib.sha256(tokens.tobytes() + lengths.astype("<i8").tobytes())
        for more in (types, labels):
            digest.update(b"-" if more is None else np.ascontiguousarray(more).tobytes())
        digest.update("\n".join(self._names).encode())
        return Texts(
            names=self._names,
            tokens=tokens,
            types=types,
            starts=np.cumsum(lengths) - lengths,
            lengths=lengths,
            labels=labels,
            shortened=np.array(self._shortened),
            fingerprint=digest.hexdigest(),
            skips=skips,
        )
