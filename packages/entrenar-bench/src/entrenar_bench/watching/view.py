"""How a study that is driven looks on a whole terminal: one state, one renderable (pure)."""

from __future__ import annotations

from rich.cells import cell_len, set_cell_size
from rich.console import RenderableType

from entrenar_bench.watching.state import ArmState, RunState, StudyState, better, format_value
from entrenar_common.lines import Line, Lines
from entrenar_common.panels import panels
from entrenar_common.plot import Glyphs
from entrenar_common.progress import format_seconds, format_steps
from entrenar_common.text import escape_controls

__all__ = ["render"]

_AIRY = 16  # rows from which there is an empty one below the bar
_PANEL = 38  # columns that a curve has at least, with its scale
_PLOT_LEAST, _PLOT_MOST = 3, 20  # rows of a curve
_AROUND_PLOT = 3  # its title, its axis and its steps
_COLUMNS = (("runs", 7), ("now", 4), ("failed", 7), ("", 11), ("±", 9), ("time", 8))
"""Of the table, after the name; the one without a name is the metric's."""
_NAME_LEAST = 12
_MARK = " *"


def render(state: StudyState, width: int, height: int) -> RenderableType:
    """The view of `state`: at most `height` lines, none wider than `width` columns.

    What matters least is left out where there is no room. Drawn in ASCII on a console whose
    encoding is not UTF-8.
    """
    width, height = max(1, width), max(1, height)
    return Lines(lambda glyphs: _lines(state, width, height, glyphs), width)


def _lines(state: StudyState, width: int, height: int, glyphs: Glyphs) -> list[Line]:
    head: list[Line] = [_title(state), _bar(state, width, glyphs)]
    if height >= _AIRY:
        head.append([])
    rest = height - len(head)
    if rest <= 0:
        return head[:height]
    runs = [_running(run) for run in state.running][: max(1, rest // 4)]
    remarks = _remarks(state, max(1, rest // 6) if rest > 6 else 0)
    rest -= len(runs) + len(remarks)
    shown = _drawn(state, width)
    least = _PLOT_LEAST + _AROUND_PLOT if shown and rest >= 2 * (_PLOT_LEAST + _AROUND_PLOT) else 0
    table = _table(state, width, rest - least)
    rows = min(_PLOT_MOST, rest - len(table) - _AROUND_PLOT) if least else 0
    plotted = panels(shown, width, rows, glyphs=glyphs) if rows >= _PLOT_LEAST else []
    curves: list[Line] = [[(line, "")] for line in plotted]
    return [*head, *table, *runs, *curves, *remarks]


def _title(state: StudyState) -> Line:
    share = f" ({state.done / state.planned:.0%})" if state.planned else ""
    line = [
        (escape_controls(state.name), "progress.task"),
        (f"  run {state.done}/{state.planned}{share}", ""),
    ]
    if state.failed:
        line.append((f", {state.failed} failed", "bad"))
    times = f"  {format_seconds(state.elapsed)}"
    if state.left is not None and state.done < state.planned:
        times += f", about {format_seconds(state.left)} left (an estimate)"
    return [*line, (times, "note")]


def _bar(state: StudyState, width: int, glyphs: Glyphs) -> Line:
    done = int(width * state.done / state.planned) if state.planned else 0
    style = "bar.finished" if done == width else "bar.complete"
    return [(glyphs.done * done, style), (glyphs.left * (width - done), "frame")]


def _table(state: StudyState, width: int, rows: int) -> list[Line]:
    """A header, a row for each arm that there is room for, and what the marks mean."""
    if rows < 3:
        return []
    best = state.best
    arms = _chosen(state, rows - 2)
    hidden = len(state.arms) - len(arms)
    name = max([_NAME_LEAST, *(cell_len(escape_controls(arm.name)) + 2 for arm in arms)])
    name = max(_NAME_LEAST, min(name, width - sum(columns for _, columns in _COLUMNS)))
    header = "".join(f"{title or state.metric[:10]:>{columns}}" for title, columns in _COLUMNS)
    lines: list[Line] = [[(f"{'arm':<{name}}{header}", "column")]]
    lines += [_row(arm, name, is_best=arm is best) for arm in arms]
    caption = f"* best mean so far; {state.metric}: {state.goal} is better, ± over seeds"
    more = f"; {hidden} more arms" if hidden else ""
    return [*lines, [(caption + more, "caption")]]


def _row(arm: ArmState, name: int, *, is_best: bool) -> Line:
    mark = _MARK if is_best else ""
    shown = escape_controls(arm.name)
    if cell_len(shown) + len(mark) > name:
        shown = set_cell_size(shown, name - len(mark) - 1) + "~"
    cells = (
        f"{arm.finished}/{arm.planned}",
        str(arm.running or ""),
        str(arm.failed or ""),
        format_value(arm.mean),
        "" if arm.deviation is None else f"{arm.deviation:.2g}",
        "" if arm.seconds is None else format_seconds(arm.seconds),
    )
    texts = [f"{text:>{columns}}" for text, (_, columns) in zip(cells, _COLUMNS, strict=True)]
    named = set_cell_size(shown + mark, name)
    style = "good" if is_best else "bad" if arm.failed else ""
    return [(named, style), ("".join(texts), "")]


def _chosen(state: StudyState, rows: int) -> list[ArmState]:
    """The arms that there is room for, in their order: those that run and the best ones first."""
    if len(state.arms) <= rows:
        return list(state.arms)
    ranks = {arm.name: rank for rank, arm in enumerate(better(state.arms, state.goal), 1)}
    first = sorted(
        state.arms,
        key=lambda arm: (
            0 if ranks.get(arm.name) == 1 else 1 if arm.running else 2,
            ranks.get(arm.name, len(ranks) + 1),
        ),
    )
    wanted = {arm.name for arm in first[: max(0, rows)]}
    return [arm for arm in state.arms if arm.name in wanted]


def _running(run: RunState) -> Line:
    parts = [f" {run.phase} step {format_steps(run.step, run.total)}".replace("  ", " ")]
    if run.rate is not None:
        parts.append(f"{run.rate:.3g} steps/s")
    if run.points:
        parts.append(f"loss {run.points[-1][1]:#.4g}")
    if not run.step:
        parts = [" has begun"]
    return [("now ", "note"), (f"{_named(run)}:", "name"), (", ".join(parts), "")]


def _drawn(state: StudyState, width: int) -> dict[str, list[tuple[float, float]]]:
    """The curves that there is room for: of what runs, then of what ended last."""
    shown = {f"now {_named(run)}": list(run.points) for run in state.running if run.points}
    shown |= {f"done {_named(run)}": list(run.points) for run in state.ended if run.points}
    return dict(list(shown.items())[: max(1, width // _PANEL)])


def _remarks(state: StudyState, rows: int) -> list[Line]:
    last = state.remarks[max(0, len(state.remarks) - rows) :] if rows else ()
    return [[(text, "warning" if text.startswith("!") else "")] for text in last]


def _named(run: RunState) -> str:
    return f"{escape_controls(run.arm)}, seed {run.seed}"
