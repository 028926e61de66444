"""What the command `report` was asked for, and the command line that asks for it again."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from entrenar_bench.report.gathered import is_reading
from entrenar_bench.statistics import Goal
from entrenar_common.errors import UsageError
from entrenar_common.text import escape_controls

__all__ = ["command_line", "metrics_asked"]

_GOALS: dict[str, Goal] = {"lower": "lower", "higher": "higher"}


def metrics_asked(texts: Sequence[str], known: Sequence[str]) -> dict[str, Goal]:
    """Metrics with their goals out of NAME[:lower|higher]; without any, the loss or the only one of
    `known`.

    Raises UsageError for a goal that is none, and where it cannot be known which metric decides.

    >>> metrics_asked(["loss", "accuracy:higher"], [])
    {'loss': 'lower', 'accuracy': 'higher'}
    """
    if texts:
        return dict(map(_asked, texts))
    steady = [name for name in known if not is_reading(name)]
    if "loss" in steady:
        return {"loss": "lower"}
    if len(steady) != 1:
        shown = ", ".join(map(escape_controls, steady)) or "none"
        raise UsageError(
            f"which metric decides is not known: finished runs have {shown}",
            hint="name it with --metric NAME, or --metric NAME:higher",
        )
    return {steady[0]: "lower"}


def command_line(
    paths: Sequence[str],
    metrics: Mapping[str, Goal],
    form: str,
    *,
    baseline: str | None,
    design: str,
    correction: str,
    alpha: float,
    margin: float | None,
) -> str:
    """The command that makes the report again, in the folder of the studies."""
    words = ["entrenar-bench", "report", *(Path(path).name for path in paths)]
    for name, goal in metrics.items():
        words += ["--metric", f"{name}:{goal}"]
    words += ["--baseline", baseline] if baseline is not None else []
    words += ["--design", design, "--correction", correction, "--alpha", repr(alpha)]
    words += ["--margin", repr(margin)] if margin is not None else []
    words += ["--format", form, "--output", f"report.{'tex' if form == 'latex' else form}"]
    return shlex.join(words)


def _asked(text: str) -> tuple[str, Goal]:
    name, colon, goal = text.rpartition(":")
    if not colon:
        return text, "lower"
    if goal not in _GOALS or not name:
        raise UsageError(
            f"--metric {escape_controls(text)!r}: after the colon comes lower or higher",
            hint="write it as in --metric accuracy:higher",
        )
    return name, _GOALS[goal]
