"""The entry of a command in the history: what it read and wrote, and the figures it found."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from entrenar_common.tables import to_plain
from entrenar_shell.command import PlainLine
from entrenar_shell.session import Entry, FileState
from entrenar_shell.states import state_of
from entrenar_shell.traces import read_and_written

__all__ = ["FIGURES", "entry_of", "figures"]

FIGURES = frozenset(
    {
        "loss", "held_out_loss", "perplexity", "bits_per_byte", "accuracy", "macro_f1", "rmse",
        "r2", "agreement", "kl", "cosine", "ece", "tokens_per_second",
    }
)  # fmt: skip
"""Figures of models that are kept, by the names that records have them by."""

_MODEL = ("name", "model")


def entry_of(
    number: int,
    line: str,
    plain: Sequence[PlainLine],
    *,
    code: int,
    started: float,
    seconds: float,
    found: Any = None,
) -> Entry:
    """The entry of what was carried out in the current folder; `found` is the record it printed."""
    read, written = read_and_written(plain) if code == 0 else ((), ())
    return Entry(
        number, line, tuple(plain), str(Path.cwd()), started, seconds, code,
        inputs=_states(read), outputs=_states(written),
        metrics=dict(figures(to_plain(found))) if found is not None else {},
    )  # fmt: skip


def _states(paths: Sequence[Path]) -> tuple[FileState, ...]:
    return tuple(state_of(path) for path in paths if path.exists())


def figures(document: Any, of: str = "") -> Iterator[tuple[str, float]]:
    """The figures in a record's JSON form, by name: those of a model begin with what it is called,
    as in `student.loss`."""
    if isinstance(document, Mapping):
        called = next((document[key] for key in _MODEL if isinstance(document.get(key), str)), of)
        for key, value in document.items():
            number = _number(value)
            if key in FIGURES and number is not None:
                yield f"{called}.{key}" if called else key, number
            else:
                yield from figures(value, called)
    elif isinstance(document, list):
        for value in document:
            yield from figures(value, of)


def _number(value: Any) -> float | None:
    """A number, or the value of one that has an interval."""
    if isinstance(value, Mapping):
        value = value.get("value")
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
