"""Tables of figures with their bounds, of several models below each other."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import Any

from entrenar_common.tables import Table, Text
from entrenar_distill.intervals import Figure

__all__ = [
    "DifferenceLine",
    "Form",
    "Line",
    "NamedFigures",
    "differences_table",
    "figures_table",
    "plain",
    "points",
    "share",
    "short_labels",
    "signed",
    "signed_points",
    "signed_share",
]

Form = Callable[[float], str]
"""How a figure is written."""

Line = tuple[str, str, Form]
"""Title, name and form of a figure."""

DifferenceLine = tuple[str, str, Form, int]
"""The same of a difference, and the sign of what is better."""

NamedFigures = tuple[str, Mapping[str, Any]]
"""A model, and its figures by their names."""


def plain(value: float) -> str:
    return f"{value:.4f}" if abs(value) < 1e5 else f"{value:.3g}"


def signed(value: float) -> str:
    return f"{value:+.4f}"


def share(value: float) -> str:
    return f"{value * 100:.2f} %"


def signed_share(value: float) -> str:
    return f"{value * 100:+.2f} pp"


def points(value: float) -> str:
    return f"{value:.2f}"


def signed_points(value: float) -> str:
    return f"{value:+.2f}"


def figures_table(
    models: Sequence[NamedFigures], lines: Sequence[Line], label: dict[str, str], caption: str
) -> Table:
    """One figure of all models below each other; `label` is what a model is called there."""
    rows = [
        [title if first else "", label[model], *_cells(figure, form)]
        for title, name, form in lines
        for first, model, figure in _present(models, name)
    ]
    return Table(None, ["Figure", "Model", "Value", "Low", "High"], rows, caption)


def _present(models: Sequence[NamedFigures], name: str) -> Iterator[tuple[bool, str, Figure]]:
    found = [(model, figures.get(name)) for model, figures in models]
    kept = [(model, figure) for model, figure in found if figure is not None]
    return ((i == 0, model, figure) for i, (model, figure) in enumerate(kept))


def _cells(figure: Figure, form: Form) -> list[str | None]:
    # not equal to itself: NaN
    bounds = [form(bound) if bound == bound else None for bound in (figure.low, figure.high)]
    return [form(figure.value), *bounds]


def differences_table(
    found: Sequence[NamedFigures],
    lines: Sequence[DifferenceLine],
    label: dict[str, str],
    *,
    first: str,
    over: str,
) -> Table:
    """The differences of models to the `first`, paired `over` documents, rows or the like."""
    rows = [
        [title if top else "", label[model], *_cells(figure, form), _verdict(figure, sign)]
        for title, name, form, sign in lines
        for top, model, figure in _present(found, name)
    ]
    caption = f"Paired over {over}. Better and worse: the interval does not contain 0."
    if len(found) > 1:
        caption += f" Of {len(found)} models compared, each interval is for itself."
    columns = ["Figure", "Model", "Difference", "Low", "High", ""]
    return Table(f"Differences to {label[first]}", columns, rows, caption)


def _verdict(figure: Figure, better: int) -> Text:
    if better * figure.low > 0 and better * figure.high > 0:
        return Text("better", "good")
    if better * figure.low < 0 and better * figure.high < 0:
        return Text("worse", "bad")
    return Text("not shown")


def short_labels(names: Sequence[str]) -> dict[str, str]:
    """The last part of each name, where these are different from each other."""
    short = [PurePath(name).name or name for name in names]
    return dict(zip(names, short if len(set(short)) == len(short) else names, strict=True))
