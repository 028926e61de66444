"""How the figures of a task look on 80 columns."""

from collections.abc import Sequence
from typing import Any

from entrenar_common.tables import Fields, Table, Text
from entrenar_common.units import format_count
from entrenar_distill.figure_tables import (
    DifferenceLine,
    Line,
    differences_table,
    figures_table,
    plain,
    share,
    short_labels,
    signed,
    signed_share,
)
from entrenar_distill.task_evaluation import TaskEvaluation
from entrenar_distill.task_names import MASKED_LM, SENTENCE_EMBEDDING, SEQUENCE_CLASSIFICATION

__all__ = ["parts"]

LINES: dict[str, Sequence[Line]] = {
    SEQUENCE_CLASSIFICATION: (
        ("accuracy", "accuracy", share),
        ("macro F1", "macro_f1", plain),
        ("loss, nats/text", "loss", plain),
        ("calibration err.", "ece", plain),
        ("KL from teacher", "kl", plain),
        ("agreement", "agreement", share),
        ("both right", "both_right", share),
        ("right alone", "right_alone", share),
        ("teacher alone", "teacher_alone", share),
        ("both wrong", "both_wrong", share),
    ),
    MASKED_LM: (
        ("loss, nats/token", "loss", plain),
        ("pseudo-perplexity", "pseudo_perplexity", plain),
        ("top-1 accuracy", "accuracy", share),
        ("top-5 accuracy", "top5_accuracy", share),
        ("calibration err.", "ece", plain),
        ("KL from teacher", "kl", plain),
        ("agreement", "agreement", share),
    ),
    SENTENCE_EMBEDDING: (
        ("cosine to teacher", "cosine", plain),
        ("similarities", "similarities", plain),
        ("Spearman", "spearman", plain),
        ("Pearson", "pearson", plain),
    ),
}
"""What is shown of each task."""

DIFFERENCES: dict[str, Sequence[DifferenceLine]] = {
    SEQUENCE_CLASSIFICATION: (
        ("accuracy", "accuracy", signed_share, 1),
        ("macro F1", "macro_f1", signed, 1),
        ("loss, nats/text", "loss", signed, -1),
        ("KL from teacher", "kl", signed, -1),
    ),
    MASKED_LM: (
        ("loss, nats/token", "loss", signed, -1),
        ("top-1 accuracy", "accuracy", signed_share, 1),
        ("top-5 accuracy", "top5_accuracy", signed_share, 1),
        ("KL from teacher", "kl", signed, -1),
    ),
    SENTENCE_EMBEDDING: (
        ("cosine to teacher", "cosine", signed, 1),
        ("Spearman", "spearman", signed, 1),
        ("Pearson", "pearson", signed, 1),
    ),
}

_BINS = "Calibration error: 15 bins of equal width, of the most likely"
CAPTIONS = {
    SEQUENCE_CLASSIFICATION: f"{_BINS} class's probability.",
    MASKED_LM: f"{_BINS} token's probability. All figures are of hidden tokens.",
    SENTENCE_EMBEDDING: "",
}

_OF_TEACHER = (
    "Similarities: Spearman's correlation of the cosines between texts with the teacher's."
)
_OF_SCORES = "Spearman and Pearson: of the cosines of pairs with their scores."
_FEW = "Spearman's has no interval with so few."


def parts(report: TaskEvaluation) -> list[Any]:
    """The parts of the report's view."""
    label = short_labels([model.model for model in report.models])
    units = report.unit if report.rows == 1 else f"{report.unit}s"
    items = [
        ("task", report.task),
        ("data", ", ".join(report.data)),
        ("size", f"{report.rows} {units}"),
        *report.settings.items(),
        ("computed in", report.compute),
    ]
    if report.teacher:
        items.append(("teacher", report.teacher))
    figures = [(model.model, model.figures) for model in report.models]
    shown: list[Any] = [
        *(Text(f"Note: {text}.") for text in report.notes),
        Fields("Measured", items),
        figures_table(figures, LINES[report.task], label, _caption(report)),
    ]
    if report.differences:
        found = [(each.model, each.figures) for each in report.differences]
        shown.append(
            differences_table(
                found,
                DIFFERENCES[report.task],
                label,
                first=report.differences[0].first,
                over=report.intervals.over,
            )
        )
    return [*shown, _speed(report, label)]


def _caption(report: TaskEvaluation) -> str:
    said = [report.intervals.sentence(), CAPTIONS[report.task]]
    there = {name for model in report.models for name in model.figures}
    if "similarities" in there:
        said.append(_OF_TEACHER)
    if "pearson" in there:
        said.append(_OF_SCORES)
        if report.intervals.method == "jackknife t":
            said.append(_FEW)
    return " ".join(filter(None, said))


def _speed(report: TaskEvaluation, label: dict[str, str]) -> Table:
    rows = [
        [label[each.model], format_count(each.parameters), format_count(each.rows_per_second)]
        for each in report.models
    ]
    unit = "Documents/s" if report.task == MASKED_LM else "Texts/s"
    return Table("Speed", ["Model", "Parameters", unit], rows, "Measured once, on this machine.")
