"""Which token ids of a teacher and a student mean the same."""

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from entrenar_common.errors import ConfigError
from entrenar_core.data.same_tokens import difference, token_ids
from entrenar_core.data.tokenizer import Tokenizer

Kind = Literal["identical", "padded", "permuted", "different"]


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """How a teacher's ids are related to a student's.

    identical: both tokenizers give the same ids, and both models have as many rows; padded: the
    same ids, and different rows, of which the first `shared` are compared; permuted: the same
    tokens under other ids, the first `shared` of which are compared once the teacher has the
    student's; different: the tokenizers cut texts differently, and `reason` says why that is so.

    teachers_ids: of a permuted one, the teacher's id for each id of the student's tokenizer, −1
    where that has no token; empty otherwise. remapped: how many of them differ.
    """

    kind: Kind
    shared: int = 0
    reason: str = ""
    rows: tuple[int, int] = (0, 0)
    teachers_ids: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))

    @property
    def remapped(self) -> int:
        """The tokens whose ids differ."""
        ids = self.teachers_ids
        return int(np.count_nonzero((ids >= 0) & (ids != np.arange(len(ids)))))

    def __str__(self) -> str:
        if self.kind == "permuted":
            return f"permuted: {self.remapped} ids remapped, {self.shared} compared"
        if self.kind == "padded":
            teacher, student = self.rows
            return f"padded: {self.shared} ids of the teacher's {teacher} and student's {student}"
        if self.kind == "different":
            return f"different: {self.reason}"
        return f"identical: {self.shared} ids"

    def order(self) -> np.ndarray:
        """The teacher's row for each row that it will have (rows,), so that its ids are the
        student's: a permutation. Rows of no token come where there is place, in their order."""
        rows = self.rows[0]
        order = np.full(rows, -1)
        order[: len(self.teachers_ids)] = self.teachers_ids
        order[order < 0] = np.setdiff1d(np.arange(rows), order)
        return order


def decide(
    teacher_tokenizer: Tokenizer,
    student_tokenizer: Tokenizer,
    *,
    teacher_rows: int,
    student_rows: int,
) -> Vocabulary:
    """How the ids of a teacher and a student are related, their embeddings having so many rows.

    It follows from the content of the tokenizers, none is tried out. Raises ConfigError for a
    tokenizer with more ids than its model has rows.
    """
    for name, tokenizer, rows in (
        ("teacher", teacher_tokenizer, teacher_rows),
        ("student", student_tokenizer, student_rows),
    ):
        if tokenizer.vocab_size > rows:
            raise ConfigError(
                f"the tokenizer has {tokenizer.vocab_size} ids, but the {name}'s embedding "
                f"has {rows} rows",
                hint=f"the {name} was made for another tokenizer, or its vocab_size is wrong",
            )
    rows, shared = (teacher_rows, student_rows), min(teacher_rows, student_rows)
    if teacher_tokenizer.same_as(student_tokenizer):
        kind = "identical" if teacher_rows == student_rows else "padded"
        return Vocabulary(kind, shared, rows=rows)
    reason = difference(teacher_tokenizer, student_tokenizer)
    if reason is None and student_tokenizer.vocab_size > teacher_rows:
        highest = student_tokenizer.vocab_size - 1
        reason = f"the student has the id {highest}, and the teacher {teacher_rows} rows"
    if reason is not None:
        return Vocabulary("different", reason=reason, rows=rows)
    theirs, ours = token_ids(teacher_tokenizer), token_ids(student_tokenizer)
    ids = np.full(student_tokenizer.vocab_size, -1)
    ids[list(ours.values())] = [theirs[token] for token in ours]
    return Vocabulary("permuted", shared, rows=rows, teachers_ids=ids)


def different_tokenizers(
    reason: str, teacher_tokenizer: Tokenizer, student_tokenizer: Tokenizer
) -> ConfigError:
    """What is raised where logits would be about different tokens."""
    return ConfigError(
        f"teacher and student have different tokenizers ({teacher_tokenizer.vocab_size} and "
        f"{student_tokenizer.vocab_size} ids): their logits are about different tokens: {reason}",
        hint="distil into a student with the teacher's tokenizer, or compare tokens that cover the "
        "same bytes: distillation.cross_tokenizer: {}",
    )


def shared_vocabulary(
    teacher: Any, student: Any, teacher_tokenizer: Tokenizer, student_tokenizer: Tokenizer
) -> int:
    """How many ids, from 0, both models predict with one meaning.

    Embeddings padded to different sizes over the same tokenizer share the smaller size. Raises
    ConfigError for tokenizers that give different ids and for one with more ids than a model has
    rows. `decide` says what can be done about different ids.
    """
    found = decide(
        teacher_tokenizer,
        student_tokenizer,
        teacher_rows=teacher.config.vocab_size,
        student_rows=student.config.vocab_size,
    )
    if found.kind in ("identical", "padded"):
        return found.shared
    reason = found.reason or f"{found.remapped} tokens have other ids"
    raise different_tokenizers(reason, teacher_tokenizer, student_tokenizer)
