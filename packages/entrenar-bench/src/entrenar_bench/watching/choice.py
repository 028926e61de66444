"""How a command shows its studies, by its options and by where its output goes."""

from __future__ import annotations

import shutil
import sys

from entrenar_bench.statistics import Goal
from entrenar_bench.study import Watch
from entrenar_bench.watching.plain import Curves, Plain
from entrenar_common.console import is_terminal
from entrenar_common.output import Output
from entrenar_common.plot import ASCII, UNICODE
from entrenar_common.screen import Screen

__all__ = ["watch_of"]

_WIDTH = 80  # of a log


def watch_of(out: Output, screen: Screen | None, *, metric: str, goal: Goal) -> Watch:
    """On a screen the whole view; on a terminal a bar, and lines of what failed; else a line for
    each run. Curves come at the end with --verbose, and where there was a screen."""
    if out.quiet:
        return Watch()
    width = shutil.get_terminal_size().columns if is_terminal(sys.stderr) else _WIDTH
    utf8 = (getattr(sys.stderr, "encoding", None) or "").lower().startswith("utf")
    curves = Curves(width, UNICODE if utf8 else ASCII)
    if screen is not None:
        from entrenar_bench.watching.live import LiveStudy

        return LiveStudy(screen, metric, goal, tell=out.note, curves=curves)
    on_terminal = is_terminal(sys.stderr)
    return Plain(
        metric,
        goal,
        note=out.note,
        line=out.detail if on_terminal else out.note,
        failure=out.note,
        progress=out.progress() if on_terminal else None,
        curves=curves if out.verbose else None,
    )
