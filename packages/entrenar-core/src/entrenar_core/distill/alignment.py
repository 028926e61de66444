"""Which tokens of two tokenizers cover the same bytes of the same documents."""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from entrenar_common.errors import ConfigError, IntegrityError
from entrenar_core.data.documents import TokenizedDocuments
from entrenar_core.data.spelling import Spans, Spelling

__all__ = ["Alignment", "align", "common_cuts"]

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

_AT_ONCE = 256
_CHARACTERS = 2**20


def common_cuts(ours: Spans, theirs: Spans) -> tuple[Int64, Int64]:
    """The boundaries that two tokenizations of one text have in common, as numbers of tokens, the
    text's begin first: group g is tokens[cuts[g] : cuts[g + 1]] on either side, and its bytes are
    the same on both. All groups together cover every byte of the text exactly once."""
    mine, other = np.flatnonzero(ours.cuts), np.flatnonzero(theirs.cuts)
    _, i, j = np.intersect1d(
        ours.ends[mine], theirs.ends[other], assume_unique=True, return_indices=True
    )
    return (
        np.concatenate([[ours.first], mine[i] + 1]),
        np.concatenate([[theirs.first], other[j] + 1]),
    )


@dataclass(frozen=True, eq=False)
class Alignment:
    """The documents of a dataset in the tokens of a student and of a teacher.

    student, teacher: the same documents, (N,); ids that templates put around a text are of them
    first_cut, groups: the slice of each document in the cuts, which has groups + 1, int64 (N,)
    student_cuts, teacher_cuts: the boundaries of `common_cuts`, document after document, int32
    known: whether a group is without unknown tokens, bool, beside the cut that it begins at
    first_end: where each document begins in `ends`, int64 (N,)
    ends: how many bytes of its document are read after each of the student's tokens, int32
    """

    student: TokenizedDocuments
    teacher: TokenizedDocuments
    first_cut: Int64
    groups: Int64
    student_cuts: Int32
    teacher_cuts: Int32
    known: Mask
    first_end: Int64
    ends: Int32

    def document(self, index: int) -> tuple[Int32, Int32, Mask]:
        """The cuts of one document on both sides (groups + 1,), and which groups are known."""
        start = int(self.first_cut[index])
        stop = start + int(self.groups[index]) + 1
        return (
            self.student_cuts[start:stop],
            self.teacher_cuts[start:stop],
            self.known[start : stop - 1],
        )

    def ends_of(self, index: int) -> Int32:
        """How many bytes of a document are read after each of the student's tokens."""
        start = int(self.first_end[index])
        return self.ends[start : start + int(self.student.lengths[index])]

    def select(self, indices: Sequence[int] | npt.NDArray[np.integer[Any]]) -> "Alignment":
        """The documents at `indices`, in that order, as `TokenizedDocuments.select` has them."""
        chosen = np.asarray(indices, np.int64)
        return replace(
            self,
            student=self.student.select(chosen),
            teacher=self.teacher.select(chosen),
            first_cut=self.first_cut[chosen],
            groups=self.groups[chosen],
            first_end=self.first_end[chosen],
        )

    @property
    def bytes_one_to_one(self) -> float:
        """The share of all bytes that are in groups of one token on either side."""
        single, total = 0, int(self.student.total_bytes)
        for index in range(len(self.student)):
            ours, theirs, _ = self.document(index)
            ends = np.concatenate([[0], self.ends_of(index)])[ours]
            one = (np.diff(ours) == 1) & (np.diff(theirs) == 1)
            single += int(np.diff(ends)[one].sum())
        return single / total if total else 1.0


def align(
    texts: Iterable[str], documents: TokenizedDocuments, student: Spelling, teacher: Spelling
) -> Alignment:
    """The texts of `documents`, which are in the student's tokens, in the teacher's as well.

    Raises ConfigError where one tokenizer does not tell apart what the other one does (letter case,
    accents): its probabilities are about several texts. Raises IntegrityError where the texts are
    not those of the documents.
    """
    _check_folds(student, teacher)
    made = _Made()
    for index, (ours, theirs) in enumerate(_both(texts, student, teacher)):
        if index >= len(documents) or not np.array_equal(ours.ids, documents.document(index)):
            raise _changed(documents, index)
        made.add(ours, theirs, student.unknown_id, teacher.unknown_id)
    if len(made.teacher_ids) != len(documents):
        raise _changed(documents, len(made.teacher_ids))
    names, sizes = documents.names, documents.byte_counts.tolist()
    told = TokenizedDocuments.from_arrays(names, made.teacher_ids, sizes)
    groups = np.array([len(known) - 1 for known in made.known], np.int64)
    return Alignment(
        student=documents,
        teacher=told,
        first_cut=np.cumsum(groups + 1) - groups - 1,
        groups=groups,
        student_cuts=_joined(made.student_cuts, np.int32),
        teacher_cuts=_joined(made.teacher_cuts, np.int32),
        known=_joined(made.known, np.bool_),
        first_end=np.cumsum(documents.lengths) - documents.lengths,
        ends=_joined(made.ends, np.int32),
    )


class _Made:
    """What is known of the documents so far."""

    def __init__(self) -> None:
        self.teacher_ids: list[Int32] = []
        self.student_cuts: list[Int32] = []
        self.teacher_cuts: list[Int32] = []
        self.known: list[Mask] = []
        self.ends: list[Int32] = []

    def add(self, ours: Spans, theirs: Spans, unknown: int | None, their_unknown: int | None):
        cuts, their_cuts = common_cuts(ours, theirs)
        known = np.ones(len(cuts), bool)
        for ids, bounds, number in (
            (ours.ids, cuts, unknown),
            (theirs.ids, their_cuts, their_unknown),
        ):
            if number is not None:
                before = np.concatenate([[0], np.cumsum(ids == number)])
                known[:-1] &= np.diff(before[bounds]) == 0
        self.teacher_ids.append(theirs.ids)
        self.student_cuts.append(cuts.astype(np.int32))
        self.teacher_cuts.append(their_cuts.astype(np.int32))
        self.known.append(known)
        self.ends.append(ours.ends.astype(np.int32))


def _both(
    texts: Iterable[str], student: Spelling, teacher: Spelling
) -> Iterator[tuple[Spans, Spans]]:
    for some in _some(texts):
        yield from zip(student.spans(some), teacher.spans(some), strict=True)


def _some(texts: Iterable[str]) -> Iterator[list[str]]:
    some: list[str] = []
    for text in texts:
        some.append(text)
        if len(some) == _AT_ONCE or sum(map(len, some)) > _CHARACTERS:
            yield some
            some = []
    if some:
        yield some


def _joined(arrays: list[Any], dtype: Any) -> npt.NDArray[Any]:
    return np.concatenate([np.empty(0, dtype), *arrays]).astype(dtype, copy=False)


def _check_folds(student: Spelling, teacher: Spelling) -> None:
    sides = {"student": student, "teacher": teacher}
    for (name, one), (other_name, other) in itertools.permutations(sides.items()):
        lost = one.folds - other.folds
        if lost:
            raise ConfigError(
                f"the {name}'s tokenizer does not see {' and '.join(sorted(lost))}, and the "
                f"{other_name}'s does: their probabilities are about different texts",
                hint="choose a student whose tokenizer keeps of a text what the teacher's keeps",
            )


def _changed(documents: TokenizedDocuments, index: int) -> IntegrityError:
    which = documents.names[index] if index < len(documents) else "a document after the last one"
    return IntegrityError(
        f"{which}: not the text that was tokenized, of {len(documents)} documents",
        hint="a file of the dataset changed meanwhile: start again",
    )
