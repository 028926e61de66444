"""How an evaluation looks on 80 columns."""

from collections.abc import Sequence
from typing import Any

from entrenar_common.tables import Fields, Table, Text
from entrenar_common.units import format_bytes, format_count, format_duration
from entrenar_distill.evaluate import EvaluationReport, TextEvaluation
from entrenar_distill.figure_tables import (
    DifferenceLine,
    Line,
    NamedFigures,
    differences_table,
    figures_table,
    plain,
    points,
    share,
    short_labels,
    signed,
    signed_points,
    signed_share,
)
from entrenar_distill.generation_figures import GenerationEvaluation
from entrenar_distill.text_figures import TextFigures

__all__ = ["parts"]

ON_TEXT: Sequence[Line] = (
    ("loss, nats/token", "loss", plain),
    ("perplexity", "perplexity", plain),
    ("bits per byte", "bits_per_byte", plain),
    ("top-1 accuracy", "accuracy", share),
    ("top-5 accuracy", "top5_accuracy", share),
    ("calibration err.", "ece", plain),
    ("Brier score", "brier", plain),
    ("KL from teacher", "kl", plain),
    ("agreement", "agreement", share),
)
"""Title, field and form of what is measured on documents."""

DIFFERENCES: Sequence[DifferenceLine] = (
    ("bits per byte", "bits_per_byte", signed, -1),
    ("loss, nats/token", "loss", signed, -1),
    ("top-1 accuracy", "accuracy", signed_share, 1),
    ("KL from teacher", "kl", signed, -1),
)
"""The same of differences, and the sign of what is better."""

WRITTEN: Sequence[Line] = (
    ("BLEU", "bleu", points),
    ("chrF", "chrf", points),
    ("exact match", "exact_match", share),
)

WRITTEN_DIFFERENCES: Sequence[DifferenceLine] = (
    ("BLEU", "bleu", signed_points, 1),
    ("chrF", "chrf", signed_points, 1),
    ("exact match", "exact_match", signed_share, 1),
)


def parts(report: EvaluationReport) -> list[Any]:
    """The parts of the report's view."""
    shown: list[Any] = [Text(f"Note: {text}.") for text in report.notes]
    if report.text:
        shown += _text(report.text, report.compute)
    if report.generation:
        shown += _generation(report.generation, report.compute)
    return shown


def _text(found: TextEvaluation, compute: str) -> list[Any]:
    label = short_labels([model.model for model in found.models])
    items = [
        ("data", ", ".join(found.data)),
        ("size", f"{found.documents} documents, {format_bytes(found.bytes)}"),
        ("windows", f"{found.seq_len} tokens, not overlapping, {found.batch_size} at a time"),
        ("computed in", compute),
    ]
    if found.teacher:
        items.append(("teacher", found.teacher))
    caption = (
        f"{found.intervals.sentence()} Calibration error: 15 bins of equal width, of the most "
        "likely token's probability; Brier score of that token."
    )
    shown: list[Any] = [
        Fields("Measured on text", items),
        figures_table(_figures_of(found.models), ON_TEXT, label, caption),
    ]
    if found.differences:
        shown.append(_differences(found.differences, DIFFERENCES, label, over="documents"))
    return [*shown, _speed(found.models, label)]


def _generation(found: GenerationEvaluation, compute: str) -> list[Any]:
    label = short_labels([model.model for model in found.models])
    request = found.request
    how = f"temperature {request.temperature:g}" if request.temperature else "greedily"
    items = [
        ("data", ", ".join(request.paths)),
        ("rows", f"{found.rows}: {request.prompt_field} → {request.reference_field}"),
        ("written", f"{how}, {request.max_new_tokens} tokens at most"),
        ("computed in", compute),
        *found.signatures.items(),
    ]
    shown: list[Any] = [
        Fields("Measured on what is written", items),
        figures_table(_figures_of(found.models), WRITTEN, label, found.intervals.sentence()),
    ]
    if found.differences:
        shown.append(_differences(found.differences, WRITTEN_DIFFERENCES, label, over="rows"))
    rows = [
        [
            label[model.model],
            format_count(model.new_tokens),
            format_duration(model.seconds),
            format_count(model.tokens_per_second),
        ]
        for model in found.models
    ]
    return [*shown, Table("Speed of writing", ["Model", "Tokens", "Time", "Tokens/s"], rows)]


def _figures_of(records: Sequence[Any]) -> list[NamedFigures]:
    return [(each.model, vars(each)) for each in records]


def _differences(
    found: Sequence[Any], lines: Sequence[DifferenceLine], label: dict[str, str], *, over: str
) -> Table:
    first = found[0].first
    return differences_table(_figures_of(found), lines, label, first=first, over=over)


def _speed(models: Sequence[TextFigures], label: dict[str, str]) -> Table:
    rows = [
        [
            label[model.model],
            format_count(model.parameters),
            format_count(model.tokens),
            format_duration(model.seconds),
            format_count(model.tokens_per_second),
        ]
        for model in models
    ]
    columns = ["Model", "Parameters", "Tokens", "Time", "Tokens/s"]
    return Table("Speed of scoring", columns, rows, "Measured once, on this machine.")
