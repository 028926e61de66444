"""How an evaluation looks on 80 columns."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import PurePath
from typing import Any

from entrenar_common.tables import Fields, Table, Text
from entrenar_common.units import format_bytes, format_count, format_duration
from entrenar_distill.evaluate import EvaluationReport, TextEvaluation
from entrenar_distill.generation_figures import GenerationEvaluation
from entrenar_distill.intervals import Figure
from entrenar_distill.text_figures import TextFigures

__all__ = ["parts"]

Form = Callable[[float], str]


def _plain(value: float) -> str:
    return f"{value:.4f}" if abs(value) < 1e5 else f"{value:.3g}"


def _signed(value: float) -> str:
    return f"{value:+.4f}"


def _share(value: float) -> str:
    return f"{value * 100:.2f} %"


def _signed_share(value: float) -> str:
    return f"{value * 100:+.2f} pp"


def _points(value: float) -> str:
    return f"{value:.2f}"


def _signed_points(value: float) -> str:
    return f"{value:+.2f}"


ON_TEXT: Sequence[tuple[str, str, Form]] = (
    ("loss, nats/token", "loss", _plain),
    ("perplexity", "perplexity", _plain),
    ("bits per byte", "bits_per_byte", _plain),
    ("top-1 accuracy", "accuracy", _share),
    ("top-5 accuracy", "top5_accuracy", _share),
    ("calibration err.", "ece", _plain),
    ("Brier score", "brier", _plain),
    ("KL from teacher", "kl", _plain),
    ("agreement", "agreement", _share),
)
"""Title, field and form of what is measured on documents."""

DIFFERENCES: Sequence[tuple[str, str, Form, int]] = (
    ("bits per byte", "bits_per_byte", _signed, -1),
    ("loss, nats/token", "loss", _signed, -1),
    ("top-1 accuracy", "accuracy", _signed_share, 1),
    ("KL from teacher", "kl", _signed, -1),
)
"""The same of differences, and the sign of what is better."""

WRITTEN: Sequence[tuple[str, str, Form]] = (
    ("BLEU", "bleu", _points),
    ("chrF", "chrf", _points),
    ("exact match", "exact_match", _share),
)

WRITTEN_DIFFERENCES: Sequence[tuple[str, str, Form, int]] = (
    ("BLEU", "bleu", _signed_points, 1),
    ("chrF", "chrf", _signed_points, 1),
    ("exact match", "exact_match", _signed_share, 1),
)


def parts(report: EvaluationReport) -> list[Any]:
    """The parts of the report's view."""
    shown: list[Any] = [Text(f"Note: {text}.") for text in report.notes]
    if report.text:
        shown += _text(report.text)
    if report.generation:
        shown += _generation(report.generation)
    return shown


def _text(found: TextEvaluation) -> list[Any]:
    label = _labels([model.model for model in found.models])
    items = [
        ("data", ", ".join(found.data)),
        ("size", f"{found.documents} documents, {format_bytes(found.bytes)}"),
        ("windows", f"{found.seq_len} tokens, not overlapping, {found.batch_size} at a time"),
    ]
    if found.teacher:
        items.append(("teacher", found.teacher))
    caption = (
        f"{found.intervals.sentence()} Calibration error: 15 bins of equal width, of the most "
        "likely token's probability; Brier score of that token."
    )
    shown: list[Any] = [
        Fields("Measured on text", items),
        _figures(found.models, ON_TEXT, label, caption),
    ]
    if found.differences:
        shown.append(_differences(found.differences, DIFFERENCES, label, "documents"))
    return [*shown, _speed(found.models, label)]


def _generation(found: GenerationEvaluation) -> list[Any]:
    label = _labels([model.model for model in found.models])
    request = found.request
    how = f"temperature {request.temperature:g}" if request.temperature else "greedily"
    items = [
        ("data", ", ".join(request.paths)),
        ("rows", f"{found.rows}: {request.prompt_field} → {request.reference_field}"),
        ("written", f"{how}, {request.max_new_tokens} tokens at most"),
        *found.signatures.items(),
    ]
    shown: list[Any] = [
        Fields("Measured on what is written", items),
        _figures(found.models, WRITTEN, label, found.intervals.sentence()),
    ]
    if found.differences:
        shown.append(_differences(found.differences, WRITTEN_DIFFERENCES, label, "rows"))
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


def _figures(
    models: Sequence[Any],
    lines: Sequence[tuple[str, str, Form]],
    label: dict[str, str],
    caption: str,
) -> Table:
    """One figure of all models below each other."""
    rows = [
        [title if first else "", label[model.model], *_cells(figure, form)]
        for title, name, form in lines
        for first, model, figure in _present(models, name)
    ]
    return Table(None, ["Figure", "Model", "Value", "Low", "High"], rows, caption)


def _present(models: Sequence[Any], name: str) -> Iterator[tuple[bool, Any, Figure]]:
    found = [(model, getattr(model, name)) for model in models]
    kept = [(model, figure) for model, figure in found if figure is not None]
    return ((i == 0, model, figure) for i, (model, figure) in enumerate(kept))


def _cells(figure: Figure, form: Form) -> list[str | None]:
    # not equal to itself: NaN
    bounds = [form(bound) if bound == bound else None for bound in (figure.low, figure.high)]
    return [form(figure.value), *bounds]


def _differences(
    found: Sequence[Any],
    lines: Sequence[tuple[str, str, Form, int]],
    label: dict[str, str],
    over: str,
) -> Table:
    rows = [
        [title if first else "", label[each.model], *_cells(figure, form), _verdict(figure, sign)]
        for title, name, form, sign in lines
        for first, each, figure in _present(found, name)
    ]
    caption = f"Paired over {over}. Better and worse: the interval does not contain 0."
    if len(found) > 1:
        caption += f" Of {len(found)} models compared, each interval is for itself."
    first = label[found[0].first]
    columns = ["Figure", "Model", "Difference", "Low", "High", ""]
    return Table(f"Differences to {first}", columns, rows, caption)


def _verdict(figure: Figure, better: int) -> Text:
    if better * figure.low > 0 and better * figure.high > 0:
        return Text("better", "good")
    if better * figure.low < 0 and better * figure.high < 0:
        return Text("worse", "bad")
    return Text("not shown")


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


def _labels(names: Sequence[str]) -> dict[str, str]:
    """The last part of each name, where these are different from each other."""
    short = [PurePath(name).name or name for name in names]
    return dict(zip(names, short if len(set(short)) == len(short) else names, strict=True))
