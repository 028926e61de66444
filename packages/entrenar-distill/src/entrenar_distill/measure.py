"""What the trained models are worth, on documents that none of them was trained on."""

import gzip
import math
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np

from entrenar_common.progress import Progress
from entrenar_core import models
from entrenar_core.environment import environment
from entrenar_core.train.evaluate import Scores, score
from entrenar_core.train.loop import PhaseResult
from entrenar_distill.inputs import Inputs
from entrenar_distill.report import (
    CompressionBaseline,
    ModelScore,
    PhaseTiming,
    RunReport,
    Sample,
)
from entrenar_distill.run_folder import RunFolder
from entrenar_distill.statistics import bits_per_byte_difference

SAMPLES, PROMPT_TOKENS, NEW_TOKENS, SAMPLE_TEMPERATURE = 2, 32, 64, 0.8
CURVE_POINTS = 200


def report(
    inputs: Inputs,
    trained: Mapping[str, Any],
    timings: Mapping[str, PhaseResult],
    folder: RunFolder,
    progress: Progress,
) -> RunReport:
    """Score `trained` (teacher first, then student and control) and put the report together."""
    config = inputs.config
    scores = score(
        trained,
        inputs.held_out,
        seq_len=config.dataset.max_length,
        batch_size=config.training.batch_size,
        eos_id=inputs.tokenizer.eos_id or 0,
        progress=progress,
    )
    difference = None
    if "control" in scores:
        difference = bits_per_byte_difference(
            scores["student"].nats,
            scores["control"].nats,
            scores["student"].bytes,
            seed=config.training.seed,
        )
    return RunReport(
        teacher=config.teacher.model_id,
        student=_student_name(inputs),
        temperature=config.distillation.temperature,
        alpha=config.distillation.alpha,
        steps=timings["student"].steps,
        seed=config.training.seed,
        scores=tuple(_model_score(name, trained[name], scores[name]) for name in trained),
        phases=tuple(_timing(name, result) for name, result in timings.items()),
        environment=environment(),
        difference=difference,
        baseline=gzip_baseline(inputs),
        curve={name: _curve(folder.metrics.records(name)) for name in timings},
        samples=_samples(inputs, trained),
        files=_files(folder),
        skipped_steps=sum(result.skipped for result in timings.values()),
        next_commands=_next_commands(folder, config.control),
    )


def gzip_baseline(inputs: Inputs) -> CompressionBaseline | None:
    """`gzip -9` on each held-out document; None where the tokens do not give back the text."""
    compressed = 0
    for i in range(len(inputs.held_out)):
        text = inputs.tokenizer.decode(inputs.held_out.document(i)).encode()
        if len(text) != inputs.held_out.byte_counts[i]:
            return None
        compressed += len(gzip.compress(text, 9))
    return CompressionBaseline("gzip -9", 8 * compressed / inputs.held_out.total_bytes)


def _model_score(name: str, model: Any, scores: Scores) -> ModelScore:
    return ModelScore(
        name=name,
        parameters=model.parameter_count(),
        loss=scores.loss,
        perplexity=scores.perplexity,
        bits_per_byte=scores.bits_per_byte,
        agreement=None if name == "teacher" else scores.agreement,
    )


def _timing(name: str, result: PhaseResult) -> PhaseTiming:
    return PhaseTiming(name, result.seconds, result.tokens, result.tokens_per_second, result.steps)


def _curve(records: list[dict[str, Any]]) -> tuple[tuple[int, float], ...]:
    """Cross-entropy over the steps, which student and control have in common: means of equal
    spans of steps, each at the span's last step."""
    points = [
        (r["step"], r.get("cross_entropy", r["loss"])) for r in records if r["loss"] is not None
    ]
    spans = np.array_split(np.arange(len(points)), min(CURVE_POINTS, len(points)) or 1)
    return tuple(
        (points[span[-1]][0], math.fsum(points[i][1] for i in span) / len(span))
        for span in spans
        if len(span)
    )


def _samples(inputs: Inputs, trained: Mapping[str, Any]) -> tuple[Sample, ...]:
    """Continuations of the beginnings of held-out documents, by teacher and student."""
    tokenizer, found = inputs.tokenizer, []
    long_enough = np.flatnonzero(inputs.held_out.lengths > PROMPT_TOKENS)
    for i in long_enough[:SAMPLES]:
        prompt = inputs.held_out.document(int(i))[:PROMPT_TOKENS]
        for name in ("teacher", "student"):
            text = models.generate(
                trained[name],
                prompt,
                max_new_tokens=NEW_TOKENS,
                temperature=SAMPLE_TEMPERATURE,
                seed=inputs.config.training.seed,
                eos_id=tokenizer.eos_id,
            )
            found.append(
                Sample(tokenizer.decode(prompt), name, tokenizer.decode(text[PROMPT_TOKENS:]))
            )
    return tuple(found)


def _student_name(inputs: Inputs) -> str:
    student = inputs.config.student
    if student.model_id is not None:
        return student.model_id
    if student.layers_from_teacher is not None:
        return f"layers {', '.join(map(str, student.layers_from_teacher))} of the teacher"
    return "initialised from a config"


def _files(folder: RunFolder) -> dict[str, str]:
    names = {
        "model": ".",
        "report": "report.md",
        "report data": "report.json",
        "metrics": "metrics.jsonl",
        "checkpoints": "checkpoints",
    }
    return {title: str(folder.path / name) for title, name in names.items()}


def _next_commands(folder: RunFolder, controlled: bool) -> tuple[str, ...]:
    load = f"from entrenar_core import models; print(models.load('{folder.path}').config)"
    commands = [f'{sys.executable} -c "{load}"']
    if not controlled:
        commands.insert(0, "entrenar-distill run … --control --output OTHER_FOLDER")
    return tuple(commands)
