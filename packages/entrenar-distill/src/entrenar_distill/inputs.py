"""Everything that a run reads, checked before it starts: models, tokenizer, documents."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from entrenar_common.errors import ConfigError
from entrenar_common.progress import Progress
from entrenar_core import models
from entrenar_core.data.batches import Batches
from entrenar_core.data.documents import TokenizedDocuments, split
from entrenar_core.data.hub_dataset import HubSpec
from entrenar_core.data.row_kinds import Completions, Conversations, RowKind
from entrenar_core.data.sources import DatasetSpec
from entrenar_core.data.tokenizer import Tokenizer
from entrenar_core.data.tokens import tokenize
from entrenar_core.distill import Teacher
from entrenar_core.distill.cache import CachedTeacher
from entrenar_core.io import files
from entrenar_core.train.rows import total_steps
from entrenar_core.train.run_folder import DATASET_REVISION
from entrenar_distill import cached, cross_tokenizer, features, quantized
from entrenar_distill.config import DatasetConfig, DistillConfig
from entrenar_distill.cross_tokenizer import CrossTokenizer
from entrenar_distill.routes import Routes, read_routes
from entrenar_distill.students import (
    bare_student,
    make_student,
    student_folder,
    student_tokenizer,
)
from entrenar_distill.teachers import LoadedTeacher, load_teachers, teacher_of


@dataclass(frozen=True)
class Inputs:
    """A run's models and data.

    `student_folder` is None for a student that is made here; `tokenizer` and all documents are the
    student's, and the teachers have its ids; `routes` says which teacher a document is learned
    from, None where each is learned from all; `documents` is the fingerprint of all documents;
    `quantization` says in words what is trained on stored weights and `features` what is learned
    from inside the teacher, None for nothing. With a `cache` of the teacher's predictions its model
    is a `cached.StoredTeacher`. What a teacher with another tokenizer reads is in `across`.
    """

    config: DistillConfig
    teachers: tuple[LoadedTeacher, ...]
    student_folder: Path | None
    tokenizer: Tokenizer
    train: TokenizedDocuments
    held_out: TokenizedDocuments
    batches: Batches
    routes: Routes | None
    documents: str
    quantization: str | None = None
    features: str | None = None
    across: CrossTokenizer | None = None
    cache: CachedTeacher | None = None

    @property
    def teacher(self) -> Any:
        """The model of the teacher, of several that of the first, from which students are made."""
        return self.teachers[0].model

    def told_by(self) -> Teacher:
        """Who tells the student about batches of `train`."""
        return self.cache or teacher_of(self.teachers, self.routes, self.train)

    def new_student(self) -> Any:
        """The student before its first step: equal each time, so that the control starts there."""
        return make_student(self.config, self.teacher, self.student_folder)

    def bare_student(self) -> Any:
        """The model that the student's adapter is trained on, without it."""
        return bare_student(self.config, self.teacher, self.student_folder)

    def fingerprints(self) -> dict[str, str]:
        """A hash of each input: what a run was started with, and must be continued with."""
        found = {"tokenizer": self.tokenizer.fingerprint, "documents": self.documents}
        if self.cache is None:
            found |= {each.name: each.fingerprint for each in self.teachers}
        else:  # what is in it is of these files: the cache was checked for that
            found["teacher"] = self.cache.folder.plan.keys.teacher
            found["cache"] = self.cache.folder.fingerprint
        if self.train.revision is not None:
            found[DATASET_REVISION] = self.train.revision
        if self.routes is not None:
            found["routes"] = self.routes.fingerprint
        if self.student_folder is not None:
            found["student"] = models.hash_of_model(self.student_folder)
        if self.across is not None:
            found["teacher's tokenizer"] = self.across.tokenizer.fingerprint
        return found


def read_inputs(config: DistillConfig, *, progress: Progress) -> Inputs:
    """Load what `config` names. Everything that can be wrong with it is an error here, before
    anything is trained or written."""
    cached.check_inside(config)
    cross_tokenizer.check(config)
    across = config.distillation.cross_tokenizer is not None
    loaded = load_teachers(config.teachers, dtype=config.training.frozen_dtype)
    first = loaded[0]
    student_from = student_folder(config)
    tokenizer, owner = student_tokenizer(config, student_from, first)
    check_end(tokenizer, owner)
    student = make_student(config, first.model, student_from)
    teachers = tuple(each.with_ids_of(student, tokenizer, across=across) for each in loaded)
    teacher, shared = first.model, min(each.vocabulary.shared for each in teachers)
    inside = features.terms(config.distillation, student, teacher, seed=config.training.seed)
    if not across:  # a teacher that reads other tokens reads as many as it can
        check_top_k(config.distillation.top_k, shared)
        for each in teachers:
            check_length(config.dataset.max_length, each.name, each.model)
    check_length(config.dataset.max_length, "student", student)
    spec, field = dataset_spec(config.dataset), config.dataset.route_field
    documents = tokenize(spec, tokenizer, progress=progress)
    routes = None if field is None else read_routes(config.teachers, spec, field, documents)
    train, held_out = split(documents, config.dataset.held_out, config.training.seed)
    batches = batches_of(config, train, tokenizer)
    steps = total_steps(config.training, batches)  # raises when there is not even one
    features.check_steps(inside, steps)
    theirs = None
    if across:
        check_end(first.tokenizer, f"{first.path}: the teacher's")
        theirs = cross_tokenizer.read(
            config, spec, documents, teacher=teacher, teachers=first.tokenizer, students=tokenizer,
            progress=progress,
        )  # fmt: skip
        theirs.objective(student, teacher, config)  # raises where the models do not fit
    inputs = Inputs(
        config,
        teachers,
        student_from,
        tokenizer,
        train,
        held_out,
        batches,
        routes,
        documents.fingerprint,
        quantized.check(student, config, steps, tokenizer),
        features.summary(inside),
        theirs,
    )
    return replace(inputs, cache=cached.open_cache(inputs)) if config.teachers[0].cache else inputs


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
        boundaries=config.dataset.boundaries,
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
        rows=_row_kind(dataset),
    )


def _row_kind(dataset: DatasetConfig) -> RowKind | None:
    answers_only = dataset.answers_only
    if dataset.kind == "chat":
        template = dataset.chat_template
        source = None if template is None else files.read_text(Path(template))
        return Conversations(dataset.messages_field, source, answers_only)
    if dataset.kind == "completion":
        return Completions(dataset.prompt_field, dataset.completion_field, answers_only)
    return None


def check_end(tokenizer: Tokenizer, owner: str) -> None:
    """Raise ConfigError for a tokenizer that cannot separate documents; `owner` is whose it is."""
    if tokenizer.eos_id is None:
        raise ConfigError(
            f"{owner} tokenizer names no end-of-text token",
            hint="name one as eos_token in tokenizer_config.json: it separates documents",
        )


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
