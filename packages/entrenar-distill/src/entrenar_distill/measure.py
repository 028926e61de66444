"""What the trained models are worth, on documents that none of them was trained on."""

import gzip
import importlib.util
import math
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np

from entrenar_common.progress import Progress
from entrenar_core import models
from entrenar_core.data.tokenizer import Tokenizer
from entrenar_core.environment import environment
from entrenar_core.train.evaluate import Scores, score
from entrenar_core.train.loop import PhaseResult
from entrenar_core.train.process import StopRequest
from entrenar_core.train.stored_numbers import StoredNumbers
from entrenar_distill import features, teachers
from entrenar_distill.inputs import Inputs
from entrenar_distill.next_steps import next_commands
from entrenar_distill.quantized import GGUF
from entrenar_distill.report import (
    AdaptedStudent,
    CompressionBaseline,
    ModelScore,
    PhaseTiming,
    RunReport,
    Sample,
)
from entrenar_distill.reproduction import program, reproduction
from entrenar_distill.run_folder import ADAPTER, PAGE, RunFolder
from entrenar_distill.statistics import bits_per_byte_difference

SAMPLES, PROMPT_TOKENS, NEW_TOKENS, SAMPLE_TEMPERATURE = 2, 64, 80, 0.8
CURVE_POINTS = 200


def report(
    inputs: Inputs,
    trained: Mapping[str, Any],
    timings: Mapping[str, PhaseResult],
    folder: RunFolder,
    progress: Progress,
    stop: StopRequest,
    *,
    quantization: StoredNumbers | None = None,
    adapter: AdaptedStudent | None = None,
) -> RunReport:
    """Score `trained` (teachers first, then student and control) and put the report together.

    Raises InterruptedRun when `stop` is set meanwhile.
    """
    config = inputs.config
    scores = _scores(inputs, trained, progress, stop)
    difference = None
    if "control" in scores:
        difference = bits_per_byte_difference(
            scores["student"].nats,
            scores["control"].nats,
            scores["student"].bytes,
            seed=config.training.seed,
        )
    samples, settings = _samples(inputs, trained), config.distillation.settings()
    inside = features.terms(
        config.distillation, trained["student"], inputs.teacher, seed=config.training.seed
    )
    return RunReport(
        teacher=teachers.in_words(inputs.teachers),
        student=student_name(inputs),
        temperature=config.distillation.temperature,
        alpha=config.distillation.alpha,
        beta=settings.get("beta"),
        skew=settings.get("skew"),
        top_k=config.distillation.top_k,
        tokenizers=inputs.across and inputs.across.words,
        formula=config.distillation.formula,
        steps=timings["student"].steps,
        seed=config.training.seed,
        vocabularies=None if inputs.across else teachers.vocabularies(inputs.teachers),
        scores=tuple(
            _model_score(
                name,
                trained[name],
                scores[name],
                beside_teacher=inputs.across is None and name != next(iter(trained)),
            )
            for name in trained
        ),
        phases=tuple(timing(name, result) for name, result in timings.items()),
        environment=environment(),
        difference=difference,
        baseline=gzip_baseline(inputs),
        curve={name: curve(folder.metrics.records(name)) for name in timings},
        samples=samples,
        parts=parts(folder.metrics.records("student")) or None,
        reproduction=reproduction(config, folder),
        files=files_of(folder),
        dataset_revision=inputs.train.revision,
        skipped_steps=sum(result.skipped for result in timings.values()),
        quantization=quantization,
        adapter=adapter,
        answers_only=True if inputs.held_out.trained is not None else None,
        features=features.taught(inside, folder.metrics.records("student")),
        next_commands=_next_commands(folder, inputs, samples, adapter),
    )


def _scores(
    inputs: Inputs, trained: Mapping[str, Any], progress: Progress, stop: StopRequest
) -> dict[str, Scores]:
    """Scores of all models, each on the held-out documents in its own tokens."""
    groups = [(trained, inputs.held_out, inputs.tokenizer)]
    if inputs.across is not None:
        others = {name: model for name, model in trained.items() if name != "teacher"}
        teacher = {"teacher": trained["teacher"]}
        groups = [
            (teacher, inputs.across.held_out, inputs.across.tokenizer),
            (others, inputs.held_out, inputs.tokenizer),
        ]
    found: dict[str, Scores] = {}
    for models_of_one, documents, tokenizer in groups:
        found |= score(
            models_of_one,
            documents,
            seq_len=_window(inputs, models_of_one),
            batch_size=inputs.config.training.batch_size,
            eos_id=tokenizer.eos_id or 0,
            progress=progress,
            between=lambda: stop.check("measuring the models"),
        )
    return found


def _window(inputs: Inputs, trained: Mapping[str, Any]) -> int:
    """Tokens that models read at once: as in training, where all can."""
    room = min(model.config.max_position_embeddings for model in trained.values())
    return min(inputs.config.dataset.max_length, room)


def gzip_baseline(inputs: Inputs) -> CompressionBaseline | None:
    """`gzip -9` on each held-out document; None where the tokens do not give back the text, and
    where a part of it is scored, which a compressor does not see apart."""
    if inputs.held_out.trained is not None:
        return None
    compressed = 0
    for i in range(len(inputs.held_out)):
        text = inputs.tokenizer.decode(inputs.held_out.document(i)).encode()
        if len(text) != inputs.held_out.byte_counts[i]:
            return None
        compressed += len(gzip.compress(text, 9))
    return CompressionBaseline("gzip -9", 8 * compressed / inputs.held_out.total_bytes)


def _model_score(name: str, model: Any, scores: Scores, *, beside_teacher: bool) -> ModelScore:
    return ModelScore(
        name=name,
        parameters=model.parameter_count(),
        loss=scores.loss,
        perplexity=scores.perplexity,
        bits_per_byte=scores.bits_per_byte,
        agreement=scores.agreement if beside_teacher else None,
    )


def timing(name: str, result: PhaseResult) -> PhaseTiming:
    """What a phase took, for a report."""
    return PhaseTiming(name, result.seconds, result.tokens, result.tokens_per_second, result.steps)


def curve(records: list[dict[str, Any]]) -> tuple[tuple[int, float], ...]:
    """Cross-entropy over the steps, which student and control have in common."""
    return _averaged(
        [(r["step"], r.get("cross_entropy", r["loss"])) for r in records if r["loss"] is not None]
    )


def parts(records: list[dict[str, Any]]) -> dict[str, tuple[tuple[int, float], ...]]:
    """Whatever else the loss was made of, by its name in the log: an objective's own parts are
    what stands between the loss and the learning rate."""
    found: dict[str, list[tuple[int, float]]] = {}
    for record in records:
        names = list(record)
        own = names[names.index("loss") + 1 : names.index("learning_rate")]
        for name in own:
            if record[name] is not None and name != "cross_entropy":
                found.setdefault(name, []).append((record["step"], record[name]))
    return {name: _averaged(points) for name, points in found.items()}


def _averaged(points: list[tuple[int, float]]) -> tuple[tuple[int, float], ...]:
    """Means of equal spans of steps, each at the span's last step."""
    spans = np.array_split(np.arange(len(points)), min(CURVE_POINTS, len(points)) or 1)
    return tuple(
        (points[span[-1]][0], math.fsum(points[i][1] for i in span) / len(span))
        for span in spans
        if len(span)
    )


def _samples(inputs: Inputs, trained: Mapping[str, Any]) -> tuple[Sample, ...]:
    """How teachers and student go on from held-out documents."""
    tokenizer = inputs.tokenizer
    room = min(model.config.max_position_embeddings for model in trained.values())
    found: list[Sample] = []
    for prompt in _prompts(inputs, room // 2):
        for name in (*(each.name for each in inputs.teachers), "student"):
            own, start = tokenizer, prompt
            if inputs.across is not None and name == "teacher":
                own = inputs.across.tokenizer
                start = own.encode(tokenizer.decode(prompt))[-(room - 1) :]
            ids = models.generate(
                trained[name],
                start,
                max_new_tokens=min(NEW_TOKENS, room - len(start)),
                temperature=SAMPLE_TEMPERATURE,
                seed=inputs.config.training.seed,
                eos_ids=own.eos_id,
            )[len(start) :]
            # a padded vocabulary has ids that stand for no text, and a model can choose one
            text = own.decode(ids[ids < own.vocab_size])
            found.append(Sample(tokenizer.decode(prompt), name, text))
    return tuple(found)


def _prompts(inputs: Inputs, most: int) -> list[np.ndarray]:
    """Up to `most` tokens each of documents from all over: up to their middle, or to where the
    first answer begins."""
    documents, size = inputs.held_out, min(PROMPT_TOKENS, most)
    if documents.trained is not None:
        masks = [documents.targets(index) for index in range(len(documents))]
        answers = [int(np.argmax(mask)) for mask in masks if mask is not None]
        chosen = _some(np.flatnonzero(answers))
        return [documents.document(i)[max(0, answers[i] - size) : answers[i]] for i in chosen]
    # with documents that are all short, from the middle of the longest
    size = min(size, int(documents.lengths.max()) // 2)
    if size < 1:
        return []
    chosen = _some(np.flatnonzero(documents.lengths >= 2 * size))
    return [_prompt(inputs.tokenizer, documents.document(i), size) for i in chosen]


def _some(indices: np.ndarray) -> list[int]:
    return [int(index) for index in indices[:: max(1, -(-len(indices) // SAMPLES))]]


def _prompt(tokenizer: Tokenizer, document: np.ndarray, size: int) -> np.ndarray:
    """`size` tokens of the document before its middle, or before a line's end shortly before it."""
    middle = len(document) // 2
    end = middle
    while end > max(size, middle - size) and "\n" not in tokenizer.decode(document[end - 1 : end]):
        end -= 1
    if end <= max(size, middle - size):
        end = middle
    return document[end - size : end]


def student_name(inputs: Any) -> str:
    """What the student started as, in a few words."""
    student = inputs.config.student
    if student.model_id is not None:
        return student.model_id
    if student.layers_from_teacher is not None:
        return f"layers {', '.join(map(str, student.layers_from_teacher))} of the teacher"
    return "initialised from a config"


def files_of(folder: RunFolder) -> dict[str, str]:
    """What is in the folder of a finished run, by its purpose."""
    names = {
        "model": ".",
        "report": "report.md",
        "report with curves": PAGE,
        "report data": "report.json",
        "metrics": "metrics.jsonl",
        "checkpoints": "checkpoints",
        "configuration": folder.config.name,
    }
    if (folder.path / ADAPTER).exists():
        names["adapter"] = ADAPTER
    if (folder.path / GGUF).exists():
        names["model for llama.cpp"] = GGUF
    return {title: str(folder.path / name) for title, name in names.items()}


def _next_commands(
    folder: RunFolder,
    inputs: Inputs,
    samples: tuple[Sample, ...],
    adapter: AdaptedStudent | None,
) -> tuple[str, ...]:
    return next_commands(
        folder.path,
        folder.config,
        temperature=inputs.config.distillation.temperature,
        prompt=_last_words(samples[0].prompt if samples else ""),
        controlled=inputs.config.control,
        base=None if adapter is None or adapter.fused else inputs.student_folder,
        tool=program(),
        python=sys.executable,
        transformers=importlib.util.find_spec("transformers") is not None,
        cached=inputs.cache is not None,
    )


def _last_words(text: str) -> str:
    """The beginning of the last line of `text`: something of the kind that the models know."""
    lines = [line.strip() for line in text.splitlines() if len(line.split()) > 1]
    words = " ".join(lines[-1].split()[:3]) if lines else ""
    return words if words and words.isprintable() and "\ufffd" not in words else "The"
