"""What `entrenar-inspect layers` shows: the tensors of a model, and what numbers they hold."""

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from entrenar_common.errors import NotFoundError
from entrenar_common.progress import Progress
from entrenar_common.tables import Fields, Table, Text
from entrenar_common.text import escape_controls
from entrenar_common.units import format_bytes, format_count
from entrenar_inspect.artifact import Artifact, Entry
from entrenar_inspect.distribution import Histogram, Values
from entrenar_inspect.pooled import pooled
from entrenar_inspect.tree import ORDERS, Row, rows_of, tree_of
from entrenar_inspect.values import values_of

LEVELS = " ▁▂▃▄▅▆▇█"
DRAWN = 10
"""Columns of a histogram in a table."""

FIGURES = (
    "mean", "deviation", "minimum", "maximum", "norm", "typical", "zeros", "outliers", "nans",
    "infinities",
)  # fmt: skip
"""The figures of `Values` that a table for programs has."""


@dataclass(frozen=True)
class TensorRow:
    """A tensor with what its header says, and with `--stats` its values: None where nothing here
    decodes its type."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    parameters: int
    nbytes: int
    file: str
    same_as: str | None
    values: Values | None = None


@dataclass(frozen=True)
class LayersReport:
    """The tensors of a model; `parameters` and `nbytes` count memory that two share once."""

    model: str
    format: str
    tensors: tuple[TensorRow, ...]
    parameters: int
    nbytes: int
    sort: str | None = field(default=None)
    expanded: bool = field(default=False)
    with_values: bool = field(default=False)

    def __view__(self) -> list[Any]:
        rows = list(
            rows_of(
                tree_of(_entry(tensor) for tensor in self.tensors),
                order=ORDERS.get(self.sort or ""),
                collapse=not self.expanded,
            )
        )
        if self.with_values:
            return [_values_table(self, rows), *_bad(self.tensors)]
        return [_tree_table(self, rows)]

    def csv(self) -> str:
        """One line for each tensor, with a line of names above."""
        text = io.StringIO()
        out = csv.writer(text, lineterminator="\n")
        figures = FIGURES if self.with_values else ()
        out.writerow(["name", "dtype", "shape", "parameters", "bytes", "file", *figures])
        for t in self.tensors:
            shape = "x".join(map(str, t.shape))
            values = [getattr(t.values, figure, None) for figure in figures]
            out.writerow([t.name, t.dtype, shape, t.parameters, t.nbytes, t.file, *values])
        return text.getvalue()


def layers(
    artifact: Artifact,
    *,
    only: str | None = None,
    sort: str | None = None,
    stats: bool = False,
    expanded: bool = False,
    progress: Progress,
) -> LayersReport:
    """The tensors of a model, those whose names match `only`; with `stats` all of their numbers are
    read.

    Raises NotFoundError where no name matches, and what reading raises.
    """
    chosen = [entry for entry in artifact.tensors.values() if only is None or matches(entry, only)]
    if not chosen and only is not None:
        raise NotFoundError(
            f"{artifact.spec}: no tensor matches {only!r}",
            hint="such as 'layers.0.*' or '*.weight'; without --filter all are listed",
        )
    values = _all_values(artifact, chosen, progress) if stats else {}
    tensors = [
        TensorRow(
            e.name, e.dtype, e.shape, e.elements, e.nbytes, e.file, e.same_as, values.get(e.name)
        )
        for e in chosen
    ]
    own = [tensor for tensor in tensors if tensor.same_as is None]
    return LayersReport(
        artifact.spec,
        artifact.kind,
        tuple(_sorted(tensors, sort)),
        sum(tensor.parameters for tensor in own),
        sum(tensor.nbytes for tensor in own),
        sort,
        expanded,
        stats,
    )


def matches(entry: Entry, pattern: str) -> bool:
    """Whether a name matches a pattern with * and ?, from its beginning or from one of its parts:
    'layers.0.*' is in model.layers.0.mlp.up_proj.weight."""
    name = entry.name
    starts = [0, *(i + 1 for i, char in enumerate(name) if char == ".")]
    return any(fnmatchcase(name[start:], pattern) for start in starts)


def _all_values(
    artifact: Artifact, chosen: Iterable[Entry], progress: Progress
) -> dict[str, Values | None]:
    entries = list(chosen)
    found = {}
    progress.start("read", sum(entry.nbytes for entry in entries))
    try:
        for entry in entries:
            found[entry.name] = values_of(artifact, entry.name)
            artifact.release(entry.name)
            progress.advance(entry.nbytes)
    finally:
        progress.finish()
    return found


def _sorted(tensors: list[TensorRow], sort: str | None) -> list[TensorRow]:
    if sort is None:
        return tensors
    return sorted(tensors, key=lambda t: ORDERS[sort](t.name, t.parameters, t.nbytes))


def _entry(tensor: TensorRow) -> Entry:
    return Entry(
        tensor.name, tensor.dtype, tensor.shape, tensor.nbytes, tensor.file, 0, tensor.same_as
    )


def _tree_table(report: LayersReport, rows: list[Row]) -> Table:
    found: list[tuple[Any, ...]] = []
    for row in rows:
        name = _name(row, "  ")
        entry = row.node.entry
        shape, dtype = ("", "") if entry is None else (_shape(entry.shape), entry.dtype)
        if entry is not None and entry.same_as is not None:
            found.append((name, shape, "same as", "", escape_controls(entry.same_as)))
            continue
        found.append((name, shape, dtype, format_count(row.elements), format_bytes(row.nbytes)))
    found.append(
        (
            Text(f"{len(report.tensors)} tensors", "title"),
            "",
            "",
            Text(f"{report.parameters:,}", "title"),
            Text(format_bytes(report.nbytes), "title"),
        )
    )
    caption = None
    if any(row.count > 1 for row in rows):
        caption = "Below modules that are alike (× n), figures are those of one; --verbose: of all."
    return Table(None, ("Layer", "Shape", "Type", "Numbers", "Memory"), found, caption)


def _name(row: Row, indent: str) -> str:
    return indent * row.depth + row.name + (f" × {row.count}" if row.count > 1 else "")


def _shape(shape: Iterable[int]) -> str:
    return f"[{', '.join(map(str, shape))}]"


def _values_table(report: LayersReport, rows: list[Row]) -> Table:
    values = {tensor.name: tensor.values for tensor in report.tensors}
    found = []
    for row in rows:
        name = _name(row, " ")
        about = pooled([values[entry.name] for entry in row.members])
        found.append((name, *_figures(about)) if about else (name, "", "", "", "", "", ""))
    caption = (
        "Zeros and outliers (beyond 6 deviations) of all numbers; histograms of ±4 deviations."
    )
    if any(row.count > 1 for row in rows):
        caption += " Below modules that are alike (× n), figures are those of all of them."
    return Table(
        None, ("Tensor", "Mean", "Dev.", "Min", "Max", "0 / far", "Histogram"), found, caption
    )


def _figures(values: Values) -> tuple[Any, ...]:
    numbers = [values.mean, values.deviation, values.minimum, values.maximum]
    shown = ["–" if number is None else f"{number:.2g}" for number in numbers]
    if values.mean is not None and abs(values.mean) < (values.deviation or 0) / 10:
        shown[0] = f"{values.mean:.0e}"  # about 0: what it is to two digits says nothing
    odd = f"{_share(values.zeros, values.elements)} / {format_count(values.outliers)}"
    if values.not_finite:
        return (*shown, Text(f"{values.not_finite} bad", "bad"), drawn(values.histogram))
    return (*shown, odd, drawn(values.histogram))


def _share(part: int, whole: int) -> str:
    return "0" if not part else f"{part / whole:.1%}" if part < whole else "all"


def drawn(histogram: Histogram | None, width: int = DRAWN) -> str:
    """A histogram as a line of bars, the highest one full; what is not empty is seen.

    >>> drawn(Histogram(0.0, 1.0, (0, 1, 400, 200)), 4)
    ' ▁█▄'
    """
    if histogram is None:
        return ""
    n = len(histogram.counts)
    width = min(width, n)
    sums = [0] * width
    for i, count in enumerate(histogram.counts):
        sums[i * width // n] += count
    most = max(sums)
    return "".join(LEVELS[max(round(8 * s / most), 1 if s else 0)] for s in sums)


def _bad(tensors: Iterable[TensorRow]) -> list[Any]:
    """What is not finite, and what could not be read."""
    bad = [t for t in tensors if t.values is not None and t.values.not_finite]
    unread = [t for t in tensors if t.values is None]
    parts: list[Any] = []
    if bad:
        parts.append(
            Fields(
                "Not finite",
                [(t.name, Text(_bad_words(t.values), "bad")) for t in bad if t.values is not None],
            )
        )
    if unread:
        types = ", ".join(sorted({t.dtype for t in unread}))
        parts.append(Text(f"{len(unread)} tensors are of types that nothing here decodes: {types}"))
    return parts


def _bad_words(values: Values) -> str:
    return f"{values.nans} NaN, {values.infinities} infinite, the first at {values.first_bad}"
