"""Everything that a run reads, checked before it starts: models, tokenizer, documents."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from entrenar_common.errors import ConfigError, NotFoundError
from entrenar_common.progress import Progress
from entrenar_core import models
from entrenar_core.data.batches import Batches
from entrenar_core.data.documents import TokenizedDocuments, split
from entrenar_core.data.hub_dataset import HubSpec
from entrenar_core.data.load_tokenizer import has_tokenizer, load_tokenizer
from entrenar_core.data.sources import DatasetSpec
from entrenar_core.data.tokenizer import Tokenizer
from entrenar_core.data.tokens import tokenize
from entrenar_core.distill import shared_vocabulary
from entrenar_core.io import files
from entrenar_core.io.hub import resolve_model
from entrenar_core.train.loop import total_steps
from entrenar_distill import features, quantized
from entrenar_distill.config import DatasetConfig, DistillConfig
from entrenar_distill.report import DATASET_REVISION
from entrenar_distill.students import (
    bare_student,
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
    from inside the teacher, None for nothing.
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
        if self.train.revision is not None:
            found[DATASET_REVISION] = self.train.revision
        if self.student_folder is not None:
            found["student"] = _hash_of_model(self.student_folder)
        return found


def read_inputs(config: DistillConfig, *, progress: Progress) -> Inputs:
    """Load what `config` names. Everything that can be wrong with it is an error here, before
    anything is trained or written."""
    teacher_folder = resolve_model(config.teacher.model_id, config.teacher.revision)
    tokenizer = teacher_tokenizer(teacher_folder)
    teacher = models.load(teacher_folder, dtype=config.training.frozen_dtype)
    teacher.freeze()
    student_from = student_folder(config)
    student = make_student(config, teacher, student_from)
    students_own = student_tokenizer(student_from, tokenizer)
    shared = shared_vocabulary(teacher, student, tokenizer, students_own)
    inside = features.terms(config.distillation, student, teacher, seed=config.training.seed)
    check_top_k(config.distillation.top_k, shared)
    for name, model in (("teacher", teacher), ("student", student)):
        check_length(config.dataset.max_length, name, model)
    documents = tokenize(dataset_spec(config.dataset), tokenizer, progress=progress)
    train, held_out = split(documents, config.dataset.held_out, config.training.seed)
    batches = batches_of(config, train, tokenizer)
    steps = total_steps(config.training, batches)  # raises when there is not even one
    features.check_steps(inside, steps)
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
    )


def batches_of(config: DistillConfig, train: TokenizedDocuments, tokenizer: Tokenizer) -> Batches:
    """The rows of a run in their order. Raises ConfigError where they are not one batch."""
    return Batches(
        train,
        seq_len=config.dataset.max_length,
        batch_size=config.training.batch_size,
        seed=config.training.seed,
        eos_id=tokenizer.eos_id,
        pad_id=tokenizer.pad_id,
        packing=config.dataset.packing,
    )


def dataset_spec(dataset: DatasetConfig) -> DatasetSpec:
    """The files that the `dataset` section names, here or on the hub."""
    hub = None
    if dataset.source == "huggingface":
        hub = HubSpec(
            dataset.name[0],
            revision=dataset.revision,
            subset=dataset.subset,
            split=dataset.split or "train",
            streaming=dataset.streaming,
        )
    return DatasetSpec(
        paths=() if hub else dataset.name,
        hub=hub,
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


def teacher_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer of the teacher in `folder`. Raises NotFoundError where there is none, and
    ConfigError for one that cannot separate documents."""
    if not has_tokenizer(folder):
        raise NotFoundError(
            f"{folder}: the teacher has no tokenizer.json",
            hint="copy the tokenizer files of the model into its folder",
        )
    tokenizer = load_tokenizer(folder)
    if tokenizer.eos_id is None:
        raise ConfigError(
            f"{folder}: the teacher's tokenizer names no end-of-text token",
            hint="name one as eos_token in tokenizer_config.json: it separates documents",
        )
    return tokenizer


def check_top_k(top_k: int | None, shared: int) -> None:
    """Raise ConfigError where fewer ids are shared than are to count by themselves."""
    if top_k is not None and top_k > shared:
        raise ConfigError(
            f"distillation.top_k {top_k} is more than the {shared} ids that teacher and student "
            "share",
            hint="lower distillation.top_k, or leave it out to count every id",
        )


def check_length(length: int, name: str, model: Any) -> None:
    """Raise ConfigError for rows that are longer than the model called `name` can read."""
    if length > model.config.max_position_embeddings:
        raise ConfigError(
            f"dataset.max_length {length} is more than the {name}'s "
            f"{model.config.max_position_embeddings} positions",
            hint="lower dataset.max_length",
        )
