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
from entrenar_core.data.sources import DatasetSpec
from entrenar_core.data.tokenizer import Tokenizer
from entrenar_core.data.tokens import tokenize
from entrenar_core.distill import shared_vocabulary
from entrenar_core.io import files
from entrenar_core.io.hub import resolve_model
from entrenar_distill.config import DatasetConfig, DistillConfig


@dataclass(frozen=True)
class Inputs:
    """A run's models and data.

    `shared` is the number of token ids that both models predict with one meaning.
    """

    config: DistillConfig
    teacher: Any
    teacher_folder: Path
    tokenizer: Tokenizer
    train: TokenizedDocuments
    held_out: TokenizedDocuments
    batches: Batches
    shared: int

    def new_student(self) -> Any:
        """The student before its first step: equal each time, so that the control starts there."""
        return make_student(self.config, self.teacher)

    def fingerprint(self) -> str:
        """A hash of the teacher's files and of the documents' tokens."""
        digest = hashlib.sha256(self.train.fingerprint.encode())
        digest.update(self.held_out.fingerprint.encode())
        digest.update(self.tokenizer.fingerprint.encode())
        for path in sorted(self.teacher_folder.glob("*.safetensors")):
            digest.update(files.sha256_file(path).encode())
        return digest.hexdigest()


def read_inputs(config: DistillConfig, *, progress: Progress) -> Inputs:
    """Load what `config` names. Everything that can be wrong with it is an error here, before
    anything is trained or written."""
    teacher_folder = resolve_model(config.teacher.model_id, config.teacher.revision)
    tokenizer = _tokenizer(teacher_folder, "teacher")
    teacher = models.load(teacher_folder)
    teacher.freeze()
    student = make_student(config, teacher)
    shared = shared_vocabulary(teacher, student, tokenizer, _student_tokenizer(config, tokenizer))
    for name, model in (("teacher", teacher), ("student", student)):
        _check_length(config.dataset.max_length, name, model)
    documents = tokenize(dataset_spec(config.dataset), tokenizer, progress=progress)
    for name, model in (("teacher", teacher), ("student", student)):
        _check_ids(documents, name, model)
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
    return Inputs(config, teacher, teacher_folder, tokenizer, train, held_out, batches, shared)


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


def make_student(config: DistillConfig, teacher: Any) -> Any:
    """The student that `config` describes: loaded, initialised from a seed, or cut from the
    teacher's layers."""
    student = config.student
    if student.model_id is not None:
        return models.load(resolve_model(student.model_id, student.revision))
    if student.layers_from_teacher is not None:
        return models.with_layers(teacher, student.layers_from_teacher)
    shape = teacher.config
    inherited = {
        "vocab_size": shape.vocab_size,
        "max_position_embeddings": shape.max_position_embeddings,
        "bos_token_id": shape.bos_token_id,
        "eos_token_id": shape.eos_token_id,
        "pad_token_id": shape.pad_token_id,
    }
    return models.from_config({**inherited, **(student.config or {})}, seed=config.training.seed)


def _student_tokenizer(config: DistillConfig, teachers: Tokenizer) -> Tokenizer:
    """The student's own tokenizer; one that is made here, or has none, uses the teacher's."""
    if config.student.model_id is None:
        return teachers
    folder = resolve_model(config.student.model_id, config.student.revision)
    return Tokenizer.load(folder) if (folder / "tokenizer.json").exists() else teachers


def _tokenizer(folder: Path, name: str) -> Tokenizer:
    if not (folder / "tokenizer.json").exists():
        raise NotFoundError(
            f"{folder}: the {name} has no tokenizer.json",
            hint="copy the tokenizer files of the model into its folder",
        )
    tokenizer = Tokenizer.load(folder)
    if tokenizer.eos_id is None:
        raise ConfigError(
            f"{folder}: the {name}'s tokenizer names no end-of-text token",
            hint="name one as eos_token in tokenizer_config.json: it separates documents",
        )
    return tokenizer


def _check_length(length: int, name: str, model: Any) -> None:
    if length > model.config.max_position_embeddings:
        raise ConfigError(
            f"dataset.max_length {length} is more than the {name}'s "
            f"{model.config.max_position_embeddings} positions",
            hint="lower dataset.max_length",
        )


def _check_ids(documents: TokenizedDocuments, name: str, model: Any) -> None:
    if documents.max_id >= model.config.vocab_size:
        raise ConfigError(
            f"the data has the token id {documents.max_id}, but the {name}'s embedding has only "
            f"{model.config.vocab_size} rows",
            hint="the tokenizer and the model do not belong together",
        )
