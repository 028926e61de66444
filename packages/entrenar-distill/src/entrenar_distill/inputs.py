"""Everything that a run reads, checked before it starts: models, tokenizer, documents."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from entrenar_common.errors import ConfigError
from entrenar_common.progress import Progress
from entrenar_core import models
from entrenar_core.data.batches import Batches
from entrenar_core.data.documents import TokenizedDocuments, split
from entrenar_core.data.sources import DatasetSpec
from entrenar_core.data.tokenizer import Tokenizer
from entrenar_core.data.tokens import tokenize
from entrenar_core.distill import shared_vocabulary
from entrenar_core.io import files
from entrenar_core.io.hub import resolve_model
from entrenar_core.train.loop import total_steps
from entrenar_distill import cross_tokenizer, features, quantized
from entrenar_distill.config import DatasetConfig, DistillConfig
from entrenar_distill.cross_tokenizer import CrossTokenizer
from entrenar_distill.students import (
    bare_student,
    load_separating_tokenizer,
    make_student,
    student_folder,
    student_tokenizer,
)


@dataclass(frozen=True)
class Inputs:
    """A run's models and data.

    `student_folder` is None for a student that is made here; `shared` is the number of token ids
    that both models predict with one meaning; `documents` is the fingerprint of all documents;
    `quantization` says in words what is trained on stored weights and `features` what is learned
    from inside the teacher, None for nothing. `tokenizer` and all documents are the student's; what
    a teacher with another tokenizer reads is in `across`, and `shared` is 0 then.
    """

    config: DistillConfig
    teacher: Any
    teacher_folder: Path
    student_folder: Path | None
    tokenizer: Tokenizer
    train: TokenizedDocuments
    held_out: TokenizedDocuments
    batches: Batches
    shared: int
    documents: str
    quantization: str | None = None
    features: str | None = None
    across: CrossTokenizer | None = None

    def new_student(self) -> Any:
        """The student before its first step: equal each time, so that the control starts there."""
        return make_student(self.config, self.teacher, self.student_folder)

    def bare_student(self) -> Any:
        """The model that the student's adapter is trained on, without it."""
        return bare_student(self.config, self.teacher, self.student_folder)

    def fingerprints(self) -> dict[str, str]:
        """A hash of each input: what a run was started with, and must be continued with."""
        found = {
            "teacher": _hash_of_model(self.teacher_folder),
            "tokenizer": self.tokenizer.fingerprint,
            "documents": self.documents,
        }
        if self.student_folder is not None:
            found["student"] = _hash_of_model(self.student_folder)
        if self.across is not None:
            found["teacher's tokenizer"] = self.across.tokenizer.fingerprint
        return found


def read_inputs(config: DistillConfig, *, progress: Progress) -> Inputs:
    """Load what `config` names. Everything that can be wrong with it is an error here, before
    anything is trained or written."""
    teacher_folder = resolve_model(config.teacher.model_id, config.teacher.revision)
    teachers_own = load_separating_tokenizer(teacher_folder, "teacher")
    teacher = models.load(teacher_folder, dtype=config.training.frozen_dtype)
    teacher.freeze()
    student_from = student_folder(config)
    student = make_student(config, teacher, student_from)
    tokenizer = student_tokenizer(config, student_from, teachers_own)
    different = cross_tokenizer.wanted(config, teachers_own, tokenizer)
    shared = 0 if different else shared_vocabulary(teacher, student, teachers_own, tokenizer)
    inside = features.terms(config.distillation, student, teacher, seed=config.training.seed)
    _check_length(config.dataset.max_length, "student", student)
    if not different:
        _check_top_k(config.distillation.top_k, shared)
        _check_length(config.dataset.max_length, "teacher", teacher)
    spec = dataset_spec(config.dataset)
    documents = tokenize(spec, tokenizer, progress=progress)
    train, held_out = split(documents, config.dataset.held_out, config.training.seed)
    batches = Batches(
        train,
        seq_len=config.dataset.max_length,
        batch_size=config.training.batch_size,
        seed=config.training.seed,
        eos_id=tokenizer.eos_id,
        pad_id=tokenizer.pad_id,
        packing=config.dataset.packing,
    )
    steps = total_steps(config.training, batches)  # raises when there is not even one
    features.check_steps(inside, steps)
    across = None
    if different:
        across = cross_tokenizer.read(
            config, spec, documents, teacher=teacher, teachers=teachers_own, students=tokenizer,
            progress=progress,
        )  # fmt: skip
        across.objective(student, teacher, config)  # raises where the models do not fit
    return Inputs(
        config,
        teacher,
        teacher_folder,
        student_from,
        tokenizer,
        train,
        held_out,
        batches,
        shared,
        documents.fingerprint,
        quantized.check(student, config, steps, tokenizer),
        features.summary(inside),
        across,
    )


def dataset_spec(dataset: DatasetConfig) -> DatasetSpec:
    """The files that the `dataset` section names."""
    return DatasetSpec(
        paths=dataset.name,
        exclude=dataset.exclude,
        format=dataset.format,
        text_field=dataset.text_field,
        skip_bad=dataset.skip_bad,
        max_documents=dataset.max_documents,
    )


def _hash_of_model(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in models.model_files(folder):
        digest.update(files.sha256_file(path).encode())
    return digest.hexdigest()


def _check_top_k(top_k: int | None, shared: int) -> None:
    if top_k is not None and top_k > shared:
        raise ConfigError(
            f"distillation.top_k {top_k} is more than the {shared} ids that teacher and student "
            "share",
            hint="lower distillation.top_k, or leave it out to count every id",
        )


def _check_length(length: int, name: str, model: Any) -> None:
    if length > model.config.max_position_embeddings:
        raise ConfigError(
            f"dataset.max_length {length} is more than the {name}'s "
            f"{model.config.max_position_embeddings} positions",
            hint="lower dataset.max_length",
        )
