"""Everything that a run of masked language models reads, checked before it starts."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from entrenar_common.errors import ConfigError
from entrenar_common.progress import Progress
from entrenar_core import models
from entrenar_core.data.documents import TokenizedDocuments, split
from entrenar_core.data.load_tokenizer import has_tokenizer, load_tokenizer
from entrenar_core.data.masking import MaskedBatches, MaskedRows, MaskTokens
from entrenar_core.data.tokenizer import Tokenizer
from entrenar_core.data.tokens import tokenize
from entrenar_core.distill import shared_vocabulary
from entrenar_core.models.reading import MASKED
from entrenar_core.train.rows import total_steps
from entrenar_core.train.run_folder import DATASET_REVISION
from entrenar_distill import features, quantized
from entrenar_distill.config import DistillConfig
from entrenar_distill.inputs import check_top_k, dataset_spec
from entrenar_distill.students import student_folder
from entrenar_distill.text_inputs import teacher_folder, teacher_of
from entrenar_distill.text_students import bare_text_student, make_text_student

__all__ = ["HEAD", "MaskedInputs", "read_masked_inputs"]

HEAD = "masked-lm"


@dataclass(frozen=True)
class MaskedInputs:
    """A run's models and data.

    `tokens` is what stands for hidden ones; `shared` is the number of token ids that both models
    predict with one meaning; `documents` is the fingerprint of all documents. `quantization` and
    `features` are as in `Inputs`.
    """

    config: DistillConfig
    teacher: Any
    teacher_folder: Path
    student_folder: Path | None
    tokenizer: Tokenizer
    tokens: MaskTokens
    train: TokenizedDocuments
    held_out: TokenizedDocuments
    batches: MaskedBatches
    shared: int
    student_parameters: int
    documents: str
    quantization: str | None = None
    features: str | None = None

    def new_student(self) -> Any:
        """The student before its first step: equal each time, so that the control starts there."""
        return make_text_student(self.config, self.teacher, self.student_folder, HEAD)

    def bare_student(self) -> Any:
        """The model that the student's adapter is trained on, without it."""
        return bare_text_student(self.config, self.teacher, self.student_folder, HEAD)

    def fingerprints(self) -> dict[str, str]:
        """A hash of each input: what a run was started with, and must be continued with."""
        found = {
            "teacher": models.hash_of_model(self.teacher_folder),
            "tokenizer": self.tokenizer.fingerprint,
            "documents": self.documents,
        }
        if self.train.revision is not None:
            found[DATASET_REVISION] = self.train.revision
        if self.student_folder is not None:
            found["student"] = models.hash_of_model(self.student_folder)
        return found


def read_masked_inputs(config: DistillConfig, *, progress: Progress) -> MaskedInputs:
    """Load what `config` names. Everything that can be wrong with it is an error here, before
    anything is trained or written."""
    folder, tokenizer = teacher_folder(config)
    tokens = MaskTokens.of(tokenizer)
    teacher = teacher_of(folder, HEAD, config)
    student_from = student_folder(config)
    student = make_text_student(config, teacher, student_from, HEAD)
    # the same tokens have to be hidden from both, so both have to read the same ones
    students_own = tokenizer
    if student_from is not None and has_tokenizer(student_from):
        students_own = load_tokenizer(student_from)
    shared = shared_vocabulary(teacher, student, tokenizer, students_own)
    inside = features.terms(config.distillation, student, teacher, seed=config.training.seed)
    check_top_k(config.distillation.top_k, shared)
    dataset, training = config.dataset, config.training
    for name, model in (("teacher", teacher), ("student", student)):
        _check_length(dataset.max_length, name, MASKED.positions(model))
    documents = tokenize(dataset_spec(dataset), tokenizer, progress=progress)
    train, held_out = split(documents, dataset.held_out, training.seed)
    batches = MaskedBatches(
        train, seq_len=dataset.max_length, batch_size=training.batch_size, seed=training.seed,
        tokens=tokens, share=dataset.mask_share, accumulation=training.gradient_accumulation,
    )  # fmt: skip
    steps = total_steps(training, batches)  # raises when there is not even one
    features.check_steps(inside, steps)
    _check_held_out(config, held_out, tokens)
    return MaskedInputs(
        config=config,
        teacher=teacher,
        teacher_folder=folder,
        student_folder=student_from,
        tokenizer=tokenizer,
        tokens=tokens,
        train=train,
        held_out=held_out,
        batches=batches,
        shared=shared,
        student_parameters=student.parameter_count(),
        documents=documents.fingerprint,
        quantization=quantized.check(student, config, steps, tokenizer),
        features=features.summary(inside),
    )


def _check_length(length: int, name: str, positions: int) -> None:
    if length > positions:
        raise ConfigError(
            f"dataset.max_length {length} is more than the {name}'s {positions} positions",
            hint="lower dataset.max_length",
        )


def _check_held_out(
    config: DistillConfig, held_out: TokenizedDocuments, tokens: MaskTokens
) -> None:
    dataset, seed = config.dataset, config.training.seed
    rows = MaskedRows(held_out, seq_len=dataset.max_length, tokens=tokens, share=dataset.mask_share)
    if not any(batch.targets for batch in rows.in_order(1, seed=seed)):
        raise ConfigError(
            f"the {len(held_out)} held-out documents have no token to hide: nothing to measure",
            hint="use more data, or raise dataset.held_out",
        )
