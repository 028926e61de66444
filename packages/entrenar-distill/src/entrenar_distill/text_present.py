"""How the report of a run about whole texts looks: a list of parts, as in `present`."""

import math
from collections.abc import Callable
from typing import Any

from entrenar_common.panels import panels
from entrenar_common.tables import Fields, Table, Text
from entrenar_common.units import format_count
from entrenar_distill.intervals import Figure
from entrenar_distill.present import (
    WIDTH,
    Block,
    adapter_part,
    closing_parts,
    features_part,
    loss_part,
    machine_part,
    phases_part,
    quantization_part,
    reproduction_parts,
)
from entrenar_distill.task_names import MASKED_LM, SENTENCE_EMBEDDING
from entrenar_distill.text_report import TextReport

__all__ = ["parts"]


def _number(value: float) -> str:
    return f"{value:.4f}"


def _percent(value: float) -> str:
    return f"{value * 100:.1f} %"


_COLUMNS: dict[str, tuple[str, Callable[[float], str]]] = {
    "cosine": ("Cosine", _number),
    "spearman": ("Rank correlation", _number),
    "loss": ("Loss", _number),
    "accuracy": ("Accuracy", _percent),
    "top5_accuracy": ("In top 5", _percent),
    "macro_f1": ("Macro F1", _number),
    "ece": ("ECE", _number),
    "agreement": ("Agreement", _percent),
    "kl": ("KL", _number),
}
"""Figure → its column and how it is written."""

_CAPTIONS = {
    MASKED_LM: "Held-out documents. Loss in nats per hidden token; ECE: expected calibration "
    "error; agreement and KL with the teacher.",
    SENTENCE_EMBEDDING: "Held-out texts. Cosine: the mean, to the teacher's embedding; rank "
    "correlation: Spearman's, of the similarities between texts with the teacher's.",
}
_CLASSES = (
    "Held-out texts. Loss in nats per text; macro F1: the mean over classes; ECE: expected "
    "calibration error; agreement and KL with the teacher."
)


def parts(report: TextReport) -> list[Any]:
    """The parts of the report's view, in the order in which a reader asks for them."""
    shown: list[Any] = [Text(report.verdict, _style(report))]
    shown += [Text(f"Note: {text}", "warning") for text in report.notes]
    shown.append(_scores(report))
    shown.append(Text(report.intervals.sentence()))
    if report.features:
        shown.append(features_part(report.features))
    if report.quantization:
        shown.append(quantization_part(report.quantization))
    if report.adapter:
        shown.append(adapter_part(report.adapter))
    if report.curve:
        title = (
            "loss" if report.task == SENTENCE_EMBEDDING else "cross-entropy, or loss without it,"
        )
        shown.append(Block(f"Training {title} by step", panels(report.curve, WIDTH)))
    if report.parts:
        shown.append(loss_part(report.parts))
    shown += [phases_part(report.phases), _settings(report), machine_part(report.environment)]
    if report.reproduction:
        shown += reproduction_parts(report.reproduction)
    return shown + closing_parts(report.files, report.next_commands)


def _style(report: TextReport) -> str:
    # where a loss is what counts, the lower difference is the better one
    name, sign = ("loss", -1) if report.task == MASKED_LM else ("accuracy", 1)
    found = (report.difference or {}).get(name)
    if found is None:
        return ""
    low, high = sorted([sign * found.low, sign * found.high])
    return "good" if low > 0 else "bad" if high < 0 else ""


def _scores(report: TextReport) -> Table:
    there = {
        name
        for score in report.scores
        for name, figure in score.figures.items()
        if figure is not None
    }
    names = [name for name in _COLUMNS if name in there]
    rows: list[list[Any]] = [
        [
            score.name,
            format_count(score.parameters),
            *(_cell(score.figures.get(name), name) for name in names),
            format_count(score.texts_per_second),
        ]
        for score in report.scores
    ]
    if report.difference is not None:
        found = report.difference
        cells = [_cell(found.get(name), name, sign=True) for name in names]
        rows.append(["student − control", None, *cells, None])
    columns = ["Model", "Parameters", *(_COLUMNS[name][0] for name in names), "Texts/s"]
    return Table("Quality", columns, rows, _CAPTIONS.get(report.task, _CLASSES))


def _cell(figure: Figure | None, name: str, *, sign: bool = False) -> str | None:
    """The figure and half the width of its interval."""
    if figure is None:
        return None
    write = _COLUMNS[name][1]
    plus = "+" if sign and figure.value >= 0 else ""
    half = (figure.high - figure.low) / 2
    return f"{plus}{write(figure.value)}" + ("" if math.isnan(half) else f" ± {write(half)}")


def _settings(report: TextReport) -> Fields:
    texts = f"{report.training_texts}"
    if report.shortened_texts:
        texts += f", {report.shortened_texts} of them cut"
    return Fields(
        "Run",
        [
            ("task", report.task),
            ("teacher", report.teacher),
            ("student", report.student),
            ("training texts", texts),
            ("loss", report.formula),
            *report.settings.items(),
            ("normalised", report.normaliser),
            ("steps", report.steps),
            ("skipped steps", report.skipped_steps),
            ("seed", report.seed),
        ],
    )
