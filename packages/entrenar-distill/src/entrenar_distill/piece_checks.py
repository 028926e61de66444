"""What is said of each thing that a run reads: a check for each, in the order of a run."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from entrenar_common.units import format_count
from entrenar_distill import features
from entrenar_distill.check import Check, Status
from entrenar_distill.config import DistillConfig
from entrenar_distill.pieces import Pieces
from entrenar_distill.report import NORMALISER
from entrenar_distill.task import task_of
from entrenar_distill.task_names import CAUSAL_LM
from entrenar_distill.teachers import in_words, vocabularies


@dataclass(frozen=True)
class Said:
    """What was looked at, in words, and what is doubtful about it."""

    note: str
    warnings: tuple[str, ...] = ()


_TOGETHER = "all of it together"


def piece_checks(config: DistillConfig, pieces: Pieces) -> Iterator[Check]:
    """A check for each thing that the configuration has: refused with its error, not made where
    something is missing that it is about, or with what was looked at."""
    for name, title, needs, describe in _CHECKS if config.task == CAUSAL_LM else ():
        error = pieces.errors.get(name)
        missing = next((need for need in needs if getattr(pieces, need) is None), None)
        if error is not None:
            yield Check.refused(name, title, error)
        elif name in _OPTIONAL and not _OPTIONAL[name](config):
            continue
        elif missing:
            # a student without an error of its own is made of its teacher
            why = "teacher" if missing == name else missing
            yield Check.skipped(name, title, f"needs {_NAMES[why]}")
        else:
            said = describe(config, pieces)
            status = Status.WARNING if said.warnings else Status.OK
            yield Check(name, title, status, said.note, details=said.warnings)
    if config.task != CAUSAL_LM and pieces.inputs is not None:
        note = f"read and fits together: all of the task {config.task}, {pieces.steps} steps"
        yield Check("inputs", _TOGETHER, Status.OK, note)
    doubts = task_of(config).warnings(pieces.inputs) if pieces.inputs is not None else ()
    if doubts:
        yield Check("warnings", "warnings", Status.WARNING, doubts[0], details=tuple(doubts[1:]))
    if "inputs" in pieces.errors:
        yield Check.refused("inputs", _TOGETHER, pieces.errors["inputs"])


def _model(where: str, model: Any) -> str:
    count = format_count(model.parameter_count())
    return f"{where}: {model.config.model_type}, {count} parameters"


def _teacher(config: DistillConfig, pieces: Pieces) -> Said:
    if pieces.teachers is None or len(pieces.teachers) == 1:
        return Said(_model(config.teachers[0].model_id, pieces.teacher))
    models = "; ".join(_model(each.name, each.model) for each in pieces.teachers)
    return Said(f"{in_words(pieces.teachers)}; {models}")


def _student(config: DistillConfig, pieces: Pieces) -> Said:
    section = config.student
    where = section.model_id or "made here"
    if section.layers_from_teacher is not None:
        where = f"layers {', '.join(map(str, section.layers_from_teacher))} of the teacher"
    trained = sum(p.size for p in pieces.student.parameters() if p.requires_grad)
    return Said(f"{_model(where, pieces.student)}, of which {format_count(trained)} are trained")


def _vocabulary(_config: DistillConfig, pieces: Pieces) -> Said:
    assert pieces.tokenizer is not None
    assert pieces.teachers is not None
    related = "; ".join(vocabularies(pieces.teachers))
    tokenizer = pieces.tokenizer
    return Said(f"{related}; {tokenizer.vocab_size} tokens, end of text {tokenizer.eos_id}")


def _positions(config: DistillConfig, pieces: Pieces) -> Said:
    models = [(each.name, each.model) for each in pieces.teachers or ()]
    models = [*(models or [("teacher", pieces.teacher)]), ("student", pieces.student)]
    have = ", ".join(f"{name} {model.config.max_position_embeddings}" for name, model in models)
    return Said(f"{config.dataset.max_length} in a row, of those that the models have: {have}")


def _documents(config: DistillConfig, pieces: Pieces) -> Said:
    train, held_out = pieces.train, pieces.held_out
    assert train is not None
    assert held_out is not None
    tokens = train.total_tokens + held_out.total_tokens
    note = f"{len(train) + len(held_out)} documents, {format_count(tokens)} tokens"
    if train.revision is not None:
        note += f", commit {train.revision}"
    if train.skips.count:
        note += f"; {train.skips.count} that cannot be read are left out"
    return Said(f"{note}; {config.dataset.rows}")


def _held_out(config: DistillConfig, pieces: Pieces) -> Said:
    found = pieces.held_out
    assert found is not None
    note = f"{len(found)} documents, {format_count(found.total_tokens)} tokens"
    wanted = f"{config.dataset.held_out:.1%} of them"
    few = ("an interval over one document says nothing",) if len(found) < 2 else ()
    return Said(f"{note}, {wanted}", few)


def _steps(config: DistillConfig, pieces: Pieces) -> Said:
    training, batches, steps = config.training, pieces.batches, pieces.steps
    assert batches is not None
    assert steps is not None
    accumulated = training.gradient_accumulation
    each = training.batch_size * accumulated
    epoch = batches.steps_per_epoch / accumulated
    note = (
        f"{steps} steps of {each} rows of {batches.seq_len} tokens; an epoch is {epoch:g} steps, "
        f"{batches.rows} rows"
    )
    lost = batches.rows - batches.steps_per_epoch * training.batch_size
    note += f", of which {lost} fill no batch" if lost else ""
    return Said(note, tuple(_doubts(config, steps)))


def _doubts(config: DistillConfig, steps: int) -> Iterator[str]:
    training = config.training
    if training.warmup_steps >= steps:
        yield f"training.warmup_steps {training.warmup_steps}: the full rate is never reached"
    every = training.evaluate_every
    if every is not None and every > steps:
        yield f"training.evaluate_every {every}: nothing is measured before the end"


def _inside(_config: DistillConfig, pieces: Pieces) -> Said:
    assert pieces.terms is not None
    found = features.summary(pieces.terms) or ""
    steps = pieces.steps or 0
    late = tuple(
        f"{term.name}: the layers {pair} are still rising when the run ends"
        for term in pieces.terms
        for pair in term.pairs
        if pair.schedule.from_step + pair.schedule.ramp_steps > steps
    )
    return Said(found, late)


def _loss(config: DistillConfig, _pieces: Pieces) -> Said:
    settings = config.distillation.settings()
    values = ", ".join(f"{name} {value:g}" for name, value in settings.items())
    return Said(f"{config.distillation.formula}; {values}; normalised {NORMALISER}")


def _stored(config: DistillConfig, pieces: Pieces) -> Said:
    notes = [pieces.quantization] if pieces.quantization else []
    notes += [f"a GGUF file in {config.recipe}"] if config.recipe else []
    return Said("; ".join(notes))


_BOTH = ("teacher", "student")
_CHECKS: tuple[tuple[str, str, tuple[str, ...], Callable[[DistillConfig, Pieces], Said]], ...] = (
    ("teacher", "teacher", ("teacher",), _teacher),
    ("student", "student", ("student",), _student),
    ("vocabulary", "vocabulary", (*_BOTH, "tokenizer", "teachers"), _vocabulary),
    ("positions", "positions", _BOTH, _positions),
    ("documents", "documents", ("train",), _documents),
    ("held_out", "held out", ("held_out",), _held_out),
    ("steps", "steps", ("steps",), _steps),
    ("inside", "inside the teacher", (*_BOTH, "terms"), _inside),
    ("loss", "loss", (), _loss),
    ("stored", "stored weights", ("student", "steps", "tokenizer"), _stored),
)
"""Name, title, what there must be, and what is then said."""

_OPTIONAL: dict[str, Callable[[DistillConfig], bool]] = {
    "inside": lambda config: bool(config.distillation.progressive or config.distillation.attention),
    "stored": lambda config: bool(config.recipe or config.training.quantization),
}
"""Checks of what a configuration need not have, and whether it does."""

_NAMES = {
    "teacher": "the teacher", "student": "the student", "tokenizer": "the tokenizer",
    "teachers": "one vocabulary", "train": "the tokenized documents",
    "held_out": "the tokenized documents", "steps": "the rows", "terms": "both models",
}  # fmt: skip
