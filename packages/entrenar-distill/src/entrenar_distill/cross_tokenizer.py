"""A teacher that reads other tokens than the student: its side of the documents, the objective."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from entrenar_common.errors import ConfigError
from entrenar_common.progress import Progress
from entrenar_core.data.documents import TokenizedDocuments, split_indices
from entrenar_core.data.sources import DatasetSpec, Skips, iter_documents
from entrenar_core.data.spelling import Spelling
from entrenar_core.data.tokenizer import Tokenizer, started
from entrenar_core.distill import (
    AlignedRows,
    CrossTokenizerDistillation,
    Matching,
    align,
    describe,
    match,
)
from entrenar_distill.config import DistillConfig
from entrenar_distill.cross_tokenizer_section import CrossTokenizerSection


@dataclass(frozen=True)
class CrossTokenizer:
    """What a run knows of the teacher's tokens.

    tokenizer: the teacher's own
    rows:      what the teacher reads for a batch of training documents
    held_out:  the held-out documents in the teacher's tokens, in the student's order
    matching:  which ids mean the same to both
    words:     how much the tokenizers have in common, for people
    """

    tokenizer: Tokenizer
    rows: AlignedRows
    held_out: TokenizedDocuments
    matching: Matching
    words: str

    def objective(
        self, student: Any, teacher: Any, config: DistillConfig
    ) -> CrossTokenizerDistillation:
        """What the student is trained on. Raises what `CrossTokenizerDistillation` raises."""
        settings = config.distillation
        return CrossTokenizerDistillation(
            student,
            teacher,
            self.rows,
            self.matching,
            divergence=settings.divergence(),
            alpha=settings.alpha,
        )


def check(config: DistillConfig) -> None:
    """Raise ConfigError where a teacher with other tokens is wanted, and something beside it that
    is about tokens of one kind."""
    if config.distillation.cross_tokenizer is None:
        return
    dataset, teachers = config.dataset, config.teachers
    beside = {
        f"{len(teachers)} teachers": len(teachers) > 1,
        "teacher.cache": teachers[0].cache is not None,
        f"dataset.kind: {dataset.kind}": dataset.kind != "text",
        "dataset.boundaries": dataset.boundaries,
    }
    for name, given in beside.items():
        if given:
            raise ConfigError(
                f"distillation.cross_tokenizer with {name}: one teacher reads texts beside the "
                "student, in tokens of its own",
                hint="leave one of the two out",
            )


def read(
    config: DistillConfig,
    spec: DatasetSpec,
    documents: TokenizedDocuments,
    *,
    teacher: Any,
    teachers: Tokenizer,
    students: Tokenizer,
    progress: Progress,
) -> CrossTokenizer:
    """Tokenize the dataset `spec`, which are the student's `documents`, for the teacher as well.

    Raises what `align` and `match` raise.
    """
    section = config.distillation.cross_tokenizer or CrossTokenizerSection.model_validate({})
    ours, theirs = Spelling(students), Spelling(teachers)
    matching = match(
        ours,
        theirs,
        matched_weight=section.matched_weight,
        sorted_weight=section.sorted_weight,
    )
    with started(progress, "align tokenizers", len(documents)) as meter:
        alignment = align(_texts(spec, meter), documents, ours, theirs)
    train, held_out = split_indices(len(documents), config.dataset.held_out, config.training.seed)
    assert teachers.eos_id is not None
    longest = teacher.config.max_position_embeddings
    return CrossTokenizer(
        tokenizer=teachers,
        rows=AlignedRows(alignment.select(train), teachers.eos_id, longest),
        held_out=alignment.teacher.select(held_out),
        matching=matching,
        words=describe(alignment, matching),
    )


def _texts(spec: DatasetSpec, progress: Progress) -> Iterator[str]:
    for document in iter_documents(spec, skips=Skips()):
        yield document.text
        progress.advance(1)
