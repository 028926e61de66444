"""What models are worth on text: measured on documents and by what they write, with intervals."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from entrenar_common.errors import ConfigError
from entrenar_common.progress import NullProgress, Progress
from entrenar_core import models
from entrenar_core.data.load_tokenizer import load_tokenizer
from entrenar_core.data.sources import DatasetSpec
from entrenar_core.data.tokenizer import Tokenizer
from entrenar_core.data.tokens import tokenize
from entrenar_core.environment import Environment, environment
from entrenar_core.io.hub import resolve_model
from entrenar_core.models.computing import FLOAT32, computed_in
from entrenar_core.train.evaluate import score
from entrenar_distill import generation
from entrenar_distill.candidates import check_finite, check_sizes, every_model
from entrenar_distill.generation import GenerationRequest, Row, Written
from entrenar_distill.generation_figures import Comparison, GenerationEvaluation
from entrenar_distill.intervals import IntervalMethod
from entrenar_distill.text_figures import ModelText, TextDifference, TextFigures, text_figures
from entrenar_distill.texts import (
    BATCH_TOKENS,
    Reading,
    load_language_model,
    load_separating_tokenizer,
)

__all__ = ["EvaluationReport", "TextEvaluation", "evaluate"]


@dataclass(frozen=True)
class TextEvaluation:
    """Figures on documents. `models` begins with the `teacher`, where there is one; differences are
    to the first model that is not the teacher."""

    data: tuple[str, ...]
    documents: int
    bytes: int
    seq_len: int
    batch_size: int
    teacher: str | None
    intervals: IntervalMethod
    models: tuple[TextFigures, ...]
    differences: tuple[TextDifference, ...]


@dataclass(frozen=True)
class EvaluationReport:
    """What was measured, on documents and by generating, each None where it was not asked for;
    `compute` names what the models computed in."""

    text: TextEvaluation | None
    generation: GenerationEvaluation | None
    compute: str
    notes: tuple[str, ...]
    environment: Environment
    seconds: float

    SCHEMA: ClassVar[str] = "entrenar.distill.evaluate/1"

    def __view__(self) -> list[Any]:
        from entrenar_distill import evaluate_view

        return evaluate_view.parts(self)


@dataclass(frozen=True)
class _Subject:
    """A model that is measured; `reading` is None where there are no documents, and `prompts` has
    nothing where nothing is generated."""

    name: str
    path: Path
    positions: int
    tokenizer: Tokenizer
    reading: Reading | None
    prompts: list[np.ndarray]


def evaluate(
    names: Sequence[str],
    *,
    data: DatasetSpec | None = None,
    teacher: str | None = None,
    generate: GenerationRequest | None = None,
    seq_len: int = 512,
    batch_size: int | None = None,
    seed: int = 0,
    compute: str = FLOAT32,
    progress: Progress | None = None,
) -> EvaluationReport:
    """Measure the models called `names`, folders, files or names on the hub, on the documents of
    `data` and by what they `generate`; with a `teacher`, how near they are to it too.

    The windows of documents are `seq_len` tokens, or what the model with the fewest positions has;
    `batch_size` rows are computed at a time, in what `compute` names, as `models.computing` has it.
    `seed` is that of resampling and of sampling.

    Raises ConfigError (nothing to measure, no language model, a teacher with other tokens),
    NumericsError (a document under which a model gives no number), and what reading them raises.
    """
    started = time.monotonic()
    progress = progress or NullProgress()
    _check_request(data, teacher, generate, seq_len, batch_size)
    every = every_model(names, teacher)
    rows = generation.read_rows(generate) if generate else []
    comparison = Comparison(rows, generate) if generate else None
    subjects = [_subject(name, data, rows, generate, progress) for name in every]
    if teacher:
        _check_teacher(subjects)
    length = min(seq_len, *(each.positions for each in subjects))
    size = batch_size or max(1, BATCH_TOKENS // length)
    work = _Work(subjects, generate, rows, length, size, seed, compute, progress)
    # beside a teacher all are in memory, so that its logits are computed once
    for group in [range(len(subjects))] if teacher else [[i] for i in range(len(subjects))]:
        with computed_in(compute):
            work.measure(list(group))
    text = None
    if data is not None:
        text = _text(data, subjects, work.texts, teacher, (length, size), seed)
    return EvaluationReport(
        text=text,
        generation=comparison.evaluate(work.written, first=len(every) - len(names), seed=seed)
        if comparison
        else None,
        compute=compute,
        notes=_notes(subjects, teacher, seq_len, length),
        environment=environment(),
        seconds=time.monotonic() - started,
    )


def _check_request(
    data: DatasetSpec | None,
    teacher: str | None,
    generate: GenerationRequest | None,
    seq_len: int,
    batch_size: int | None,
) -> None:
    if data is None and generate is None:
        raise ConfigError(
            "nothing to measure", hint="give text with --data or prompts to --generate"
        )
    if teacher and data is None:
        raise ConfigError(
            "a teacher without documents to compare it on", hint="give text with --data"
        )
    check_sizes(seq_len, batch_size)


def _subject(
    name: str,
    data: DatasetSpec | None,
    rows: list[Row],
    generate: GenerationRequest | None,
    progress: Progress,
) -> _Subject:
    """What is known of a model before it is loaded."""
    path = resolve_model(name)
    positions = models.read_config(path).max_position_embeddings
    tokenizer = load_separating_tokenizer(path) if data else load_tokenizer(path)
    reading = None
    if data is not None:
        reading = Reading(tokenizer, tokenize(data, tokenizer, progress=progress))
    prompts: list[np.ndarray] = []
    if generate is not None:
        prompts = generation.encode_prompts(tokenizer, rows, positions, generate)
    return _Subject(name, path, positions, tokenizer, reading, prompts)


def _check_teacher(subjects: list[_Subject]) -> None:
    teacher, *others = subjects
    for each in others:
        assert each.reading
        assert teacher.reading
        if not each.reading.has_tokens_of(teacher.reading):
            raise ConfigError(
                f"{each.name} has another tokenizer than the teacher {teacher.name}: their "
                "predictions are about different tokens",
                hint="leave --teacher out, and give it as a --model: bits per byte compare any two",
            )


class _Work:
    """Measures groups of models, and lets go of each group before the next."""

    def __init__(
        self,
        subjects: list[_Subject],
        generate: GenerationRequest | None,
        rows: list[Row],
        seq_len: int,
        batch_size: int,
        seed: int,
        compute: str,
        progress: Progress,
    ) -> None:
        self.subjects, self.generate, self.rows = subjects, generate, rows
        self.seq_len, self.batch_size, self.seed = seq_len, batch_size, seed
        self.compute, self.progress = compute, progress
        self.readings: list[tuple[Reading, int]] = []
        self.texts: list[ModelText] = []
        self.written: list[Written] = []

    def measure(self, group: list[int]) -> None:
        chosen = [self.subjects[i] for i in group]
        loaded = {
            each.name: load_language_model(
                each.path, hint="give models that predict text", compute=self.compute
            )
            for each in chosen
        }
        if chosen[0].reading is not None:
            self._score(chosen, loaded)
        if self.generate is not None:
            for each in chosen:
                self._write(each, loaded[each.name], self.generate)

    def _score(self, chosen: list[_Subject], loaded: dict[str, Any]) -> None:
        reading = chosen[0].reading
        assert reading
        for each in chosen:
            _check_rows(each.name, loaded[each.name], reading)
        found = score(
            loaded,
            reading.documents,
            seq_len=self.seq_len,
            batch_size=self.batch_size,
            eos_id=reading.eos_id,
            progress=self.progress,
        )
        for each in chosen:
            assert each.reading
            scores, number = found[each.name], self._reading(each.reading, reading.eos_id)
            finite, names = np.isfinite(scores.nats), reading.documents.names
            check_finite(each.name, finite, names, "document")
            count = loaded[each.name].parameter_count()
            self.texts.append(ModelText(each.name, count, number, scores))

    def _reading(self, mine: Reading, eos_id: int) -> int:
        """The number of the first reading that was of the same tokens, `eos_id` among them."""
        for number, (other, separator) in enumerate(self.readings):
            if eos_id == separator and mine.has_tokens_of(other):
                return number
        self.readings.append((mine, eos_id))
        return len(self.readings) - 1

    def _write(self, subject: _Subject, model: Any, request: GenerationRequest) -> None:
        self.written.append(
            generation.write(
                subject.name, model, subject.tokenizer, subject.prompts, self.rows, request,
                batch_size=self.batch_size, seed=self.seed, progress=self.progress,
            )
        )  # fmt: skip


def _check_rows(name: str, model: Any, reading: Reading) -> None:
    rows, highest = model.config.vocab_size, max(reading.documents.max_id, reading.eos_id)
    if highest >= rows:
        raise ConfigError(
            f"{name}: the text has token {highest}, and the model's embedding {rows} rows",
            hint="the model was made for another tokenizer, or its vocab_size is wrong",
        )


def _text(
    data: DatasetSpec,
    subjects: list[_Subject],
    measured: list[ModelText],
    teacher: str | None,
    sizes: tuple[int, int],
    seed: int,
) -> TextEvaluation:
    reading = subjects[0].reading
    assert reading
    how, figures, differences = text_figures(measured, teacher=teacher is not None, seed=seed)
    seq_len, batch_size = sizes
    return TextEvaluation(
        data=data.paths,
        documents=len(reading.documents),
        bytes=reading.documents.total_bytes,
        seq_len=seq_len,
        batch_size=batch_size,
        teacher=teacher,
        intervals=how,
        models=tuple(figures),
        differences=tuple(differences),
    )


def _notes(
    subjects: list[_Subject], teacher: str | None, wanted: int, length: int
) -> tuple[str, ...]:
    found = []
    readings = [each.reading for each in subjects if each.reading]
    if readings and length < wanted:
        found.append(f"windows of {length} tokens, since a model has no more positions")
    if teacher and len({each.eos_id for each in readings}) > 1:
        found.append("the teacher's end-of-text token is read around documents by all models")
    found += dict.fromkeys(text for each in readings for text in each.documents.warnings)
    return tuple(found)
