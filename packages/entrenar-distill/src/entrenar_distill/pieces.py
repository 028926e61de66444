"""What a run reads, as far as it can be read: one thing that is wrong does not hide the others."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from entrenar_common.errors import EntrenarError
from entrenar_common.progress import Progress
from entrenar_core.data.batches import Batches
from entrenar_core.data.documents import TokenizedDocuments, split
from entrenar_core.data.sources import list_files
from entrenar_core.data.tokenizer import Tokenizer
from entrenar_core.data.tokens import tokenize
from entrenar_core.train.rows import total_steps
from entrenar_distill import cross_tokenizer, features, quantized
from entrenar_distill import inputs as reading
from entrenar_distill.config import DistillConfig
from entrenar_distill.routes import read_routes
from entrenar_distill.students import make_student, student_folder, student_tokenizer
from entrenar_distill.task import task_of
from entrenar_distill.task_names import CAUSAL_LM
from entrenar_distill.teachers import LoadedTeacher, load_teachers


@dataclass
class Pieces:
    """The things that a run needs, None for what could not be had; `errors` says why, by the name
    of the check that is about it. `teacher` is the model of the first; `teachers` are all of them,
    with the student's ids; `inputs` is everything that the task reads, where nothing is wrong."""

    inputs: Any = None
    teacher: Any = None
    student: Any = None
    tokenizer: Tokenizer | None = None
    teachers: tuple[LoadedTeacher, ...] | None = None
    train: TokenizedDocuments | None = None
    held_out: TokenizedDocuments | None = None
    batches: Batches | None = None
    steps: int | None = None
    terms: list[Any] | None = None
    quantization: str | None = None
    errors: dict[str, EntrenarError] = field(default_factory=dict)

    @contextmanager
    def trying(self, name: str) -> Iterator[None]:
        """Inside, an error is kept as what the check `name` found."""
        try:
            yield
        except EntrenarError as error:
            self.errors.setdefault(name, error)


def read_pieces(config: DistillConfig, *, progress: Progress) -> Pieces:
    """All that `config` names, read as a run reads it; where that fails, each thing by itself."""
    pieces = Pieces()
    try:
        inputs = task_of(config).read_inputs(config, progress=progress)
    except EntrenarError as error:
        if config.task == CAUSAL_LM:
            _one_by_one(config, pieces, progress)
        if all(found.message != error.message for found in pieces.errors.values()):
            pieces.errors["inputs"] = error
        return pieces
    pieces.inputs, pieces.teacher, pieces.student = inputs, inputs.teacher, inputs.new_student()
    pieces.steps = total_steps(config.training, inputs.batches)
    if config.task != CAUSAL_LM:
        return pieces
    pieces.tokenizer, pieces.teachers = inputs.tokenizer, inputs.teachers
    pieces.train, pieces.held_out, pieces.batches = inputs.train, inputs.held_out, inputs.batches
    pieces.terms = _terms(config, pieces)
    pieces.quantization = inputs.quantization
    return pieces


def _one_by_one(config: DistillConfig, pieces: Pieces, progress: Progress) -> None:
    _models(config, pieces)
    _documents(config, pieces, progress)
    if pieces.teacher is not None and pieces.student is not None:
        with pieces.trying("inside"):
            pieces.terms = _terms(config, pieces)
            if pieces.steps is not None:
                features.check_steps(pieces.terms, pieces.steps)
    if pieces.student is not None and pieces.steps is not None and pieces.tokenizer is not None:
        with pieces.trying("stored"):
            pieces.quantization = quantized.check(
                pieces.student, config, pieces.steps, pieces.tokenizer
            )


def _models(config: DistillConfig, pieces: Pieces) -> None:
    loaded = None
    with pieces.trying("teacher"):
        loaded = load_teachers(config.teachers, dtype=config.training.frozen_dtype)
        pieces.teacher = loaded[0].model
    own = None
    with pieces.trying("student"):
        own = student_folder(config)
        if own is not None or loaded is not None:
            pieces.student = make_student(config, pieces.teacher, own)
    across = config.distillation.cross_tokenizer is not None
    if loaded is not None:
        with pieces.trying("vocabulary"):
            cross_tokenizer.check(config)
            tokenizer, owner = student_tokenizer(config, own, loaded[0])
            reading.check_end(tokenizer, owner)
            pieces.tokenizer = tokenizer
            if pieces.student is not None:
                found = tuple(
                    each.with_ids_of(pieces.student, tokenizer, across=across) for each in loaded
                )
                shared = min(each.vocabulary.shared for each in found)
                if not across:
                    reading.check_top_k(config.distillation.top_k, shared)
                pieces.teachers = found
    # a teacher that reads other tokens reads as many as it can
    named = [(each.name, each.model) for each in loaded or () if not across]
    for name, model in [*named, ("student", pieces.student)]:
        with pieces.trying("positions"):
            if model is not None:
                reading.check_length(config.dataset.max_length, name, model)


def _documents(config: DistillConfig, pieces: Pieces, progress: Progress) -> None:
    spec = None
    with pieces.trying("documents"):
        spec = reading.dataset_spec(config.dataset)
    if spec is None:
        return
    if pieces.tokenizer is None:
        with pieces.trying("documents"):
            if spec.hub is None:
                list_files(spec)
        return
    documents, field = None, config.dataset.route_field
    with pieces.trying("documents"):
        documents = tokenize(spec, pieces.tokenizer, progress=progress)
        if field is not None:
            read_routes(config.teachers, spec, field, documents)
    if documents is None:
        return
    with pieces.trying("held_out"):
        share, seed = config.dataset.held_out, config.training.seed
        pieces.train, pieces.held_out = split(documents, share, seed)
    if pieces.train is not None:
        with pieces.trying("steps"):
            pieces.batches = reading.batches_of(config, pieces.train, pieces.tokenizer)
            pieces.steps = total_steps(config.training, pieces.batches)


def _terms(config: DistillConfig, pieces: Pieces) -> list[Any]:
    seed = config.training.seed
    return features.terms(config.distillation, pieces.student, pieces.teacher, seed=seed)
