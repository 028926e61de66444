"""What people see of a comparison."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from entrenar_common.tables import Fields, Table, Text
from entrenar_common.units import format_bytes, format_count
from entrenar_inspect.compare import Comparison, KeyChange
from entrenar_inspect.compare_lines import lines_of
from entrenar_inspect.compare_numbers import NumbersTotal
from entrenar_inspect.differences import Difference
from entrenar_inspect.low_rank import LowRank
from entrenar_inspect.tensor_pairs import ADDED, DIFFERS, REMOVED, RESHAPED, RETYPED, TensorPair

MOST = 10
"""Tensors with the largest differences that are shown."""

STYLES = {"+": "good", "-": "bad", "~": "warning"}


@dataclass(frozen=True)
class Report:
    """A comparison as text: `everything` shows each tensor, `verbose` metadata and notes too."""

    found: Comparison
    everything: bool
    verbose: bool

    def __view__(self) -> list[Any]:
        each = self.everything or self.verbose
        found = self.found
        view: list[Any] = [_models(found), *(Text(note, "note") for note in found.notes)]
        lines = lines_of(found.tensors, each=each)
        if lines:
            view += [_apart(view, Text("Tensors", "title")), *(_line(*line) for line in lines)]
        if found.numbers is not None:
            headline, *more = _numbers(found, found.numbers, each)
            view += [_apart(view, headline), *more]
        if found.config:
            view.append(_keys("Config", found.config))
        if self.verbose and found.metadata:
            view.append(_keys("Metadata", found.metadata))
        return [*view, _apart(view, _summary(found))]


def _apart(view: Sequence[Any], text: Text) -> Text:
    """A paragraph with an empty line between it and one above it."""
    return replace(text, text=f"\n{text.text}") if view and isinstance(view[-1], Text) else text


def _line(sign: str, text: str) -> Text:
    return Text(f"{sign} {text}", STYLES[sign])


def _models(found: Comparison) -> Table:
    a, b = found.a, found.b
    return Table(
        None,
        ("", "A", "B"),
        [
            ("model", a.spec, b.spec),
            ("format", a.kind, b.kind),
            ("tensors", str(a.tensors), str(b.tensors)),
            ("parameters", format_count(a.parameters), format_count(b.parameters)),
            ("size", format_bytes(a.nbytes), format_bytes(b.nbytes)),
        ],
    )


def _keys(title: str, changes: Sequence[KeyChange]) -> Fields:
    return Fields(title, [(each.key, f"{_value(each.a)} → {_value(each.b)}") for each in changes])


def _value(value: Any) -> str:
    shown = "–" if value is None else str(value)
    return shown if len(shown) <= 60 else shown[:59] + "…"


# --- numbers -------------------------------------------------------------------------------------


def _numbers(found: Comparison, numbers: NumbersTotal, each: bool) -> list[Any]:
    ranked = sorted(
        ((p, p.difference) for p in found.tensors if p.difference and not p.difference.equal),
        key=lambda pair: -pair[1].relative,
    )
    shown = ranked if each else ranked[:MOST]
    view: list[Any] = [Text(_headline(numbers))]
    if shown:
        more = f"{len(ranked) - len(shown)} more: --all" if len(shown) < len(ranked) else None
        last = "SQNR" if any(d.sqnr_db is not None for _, d in shown) else "unequal"
        columns = ("Tensor", "‖b−a‖/‖a‖", "cosine", "max |b−a|", last)
        rows = [_row(pair, difference, last) for pair, difference in shown]
        view.append(Table("Largest differences", columns, rows, more))
        view += [*_patterns(ranked), *_remarks(shown)]
    if ranked:
        view.append(_modules(numbers, each))
    if numbers.low_rank:
        view.append(Text(_adapter(numbers.low_rank), "hint"))
    return view


def _headline(numbers: NumbersTotal) -> str:
    equal = f", {numbers.equal} equal in other bytes or within tolerance" if numbers.equal else ""
    text = f"Numbers of {_tensors(numbers.tensors)}: {numbers.identical} identical{equal}, "
    return f"{text}{numbers.differ} different."


def _row(pair: TensorPair, found: Difference, last: str) -> tuple[str, ...]:
    at = "" if found.at is None else f" [{', '.join(map(str, found.at))}]"
    return (
        pair.name,
        _number(found.relative),
        "–" if found.cosine is None else f"{found.cosine:.6f}",
        f"{_number(found.largest)}{at}",
        _noise(found) if last == "SQNR" else _unequal(pair, found),
    )


def _number(value: float) -> str:
    return f"{value:.3g}" if math.isfinite(value) else "–"


def _unequal(pair: TensorPair, found: Difference) -> str:
    if found.problem or pair.a is None:
        return "–"
    share = found.unequal / math.prod(pair.a.shape)
    return f"{share:.1%}" if share >= 0.0005 or not share else "<0.1%"


def _noise(found: Difference) -> str:
    finite = found.sqnr_db is not None and math.isfinite(found.sqnr_db)
    return f"{found.sqnr_db:.1f} dB" if finite else "–"


def _patterns(ranked: Sequence[tuple[TensorPair, Difference]]) -> list[Text]:
    """What is simple of tensors, each kind of it in one line."""
    names: dict[str, list[str]] = {}
    for pair, found in ranked:
        if found.pattern:
            names.setdefault(found.pattern, []).append(pair.name)
    return [
        Text(f"{each[0] if len(each) == 1 else f'{len(each)} tensors'}: {pattern}", "hint")
        for pattern, each in names.items()
    ]


def _remarks(shown: Sequence[tuple[TensorPair, Difference]]) -> list[Text]:
    """What is said of single tensors besides figures."""
    remarks = []
    for pair, found in shown:
        if found.unlike:
            many = "1 number is" if found.unlike == 1 else f"{found.unlike} numbers are"
            text = f"{many} NaN or infinite, and the other side has something else"
            remarks.append(Text(f"{pair.name}: {text}", "bad"))
        if found.problem:
            remarks.append(Text(f"{pair.name}: not compared: {found.problem}", "warning"))
    return remarks


def _modules(numbers: NumbersTotal, each: bool) -> Table:
    rows = [
        (m.module, f"{m.differ} of {m.tensors}", _number(m.relative), _cosine(m.cosine))
        for m in numbers.modules
        if m.differ or each
    ]
    total = (f"{numbers.differ} of {numbers.tensors}", _number(numbers.relative))
    rows.append(("all", *total, _cosine(numbers.cosine)))
    columns = ("Module", "Differ", "‖b−a‖/‖a‖", "cosine")
    return Table("By module", columns, rows, "Norms are of the tensors that are not identical.")


def _cosine(value: float | None) -> str:
    return "–" if value is None else f"{value:.6f}"


def _adapter(found: LowRank) -> str:
    rank = f"{found.rank}" if found.rank == found.smallest else f"{found.smallest} to {found.rank}"
    where = f"{found.matrices} of {found.changed} changed matrices"
    return (
        f"Δ is of rank {rank} in {', '.join(found.modules)} ({where}), which holds "
        f"{found.share:.2%} of the change: looks like a merged LoRA of rank {found.rank}"
    )


# --- the end -------------------------------------------------------------------------------------


def _summary(found: Comparison) -> Text:
    if found.same:
        looked = "" if found.numbers else ", as far as headers tell (--values compares numbers)"
        return Text(f"The same{looked}: {_tensors(len(found.tensors))}.", "good")
    words = {
        ADDED: "added", REMOVED: "removed", RESHAPED: "reshaped", RETYPED: "of another type",
        DIFFERS: "with other numbers",
    }  # fmt: skip
    parts = [f"{found.counts[change]} {word}" for change, word in words.items()
             if found.counts[change]]  # fmt: skip
    parts.append(f"{found.counts['same']} the same")
    if found.config:
        keys = len(found.config)
        parts.append(f"{keys} {'key' if keys == 1 else 'keys'} of the config")
    return Text(f"They differ: {', '.join(parts)}.", "bad")


def _tensors(count: int) -> str:
    return "1 tensor" if count == 1 else f"{count} tensors"
