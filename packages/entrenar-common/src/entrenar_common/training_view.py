"""How a training looks on a whole terminal: one state, one renderable (pure)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from rich.console import RenderableType

from entrenar_common.lines import Line, Lines, Piece
from entrenar_common.plot import Glyphs, framed, sparkline
from entrenar_common.progress import format_field, format_seconds, format_steps
from entrenar_common.series import Curve
from entrenar_common.text import escape_controls
from entrenar_common.units import format_bytes, format_count

__all__ = ["Remark", "TrainingState", "render"]

_WIDE = 120  # columns from which readings are beside each other
_LABEL, _VALUE = 14, 9
_LEAST_PLOT = 2  # rows below which a plot says nothing
_AIRY = 16  # rows from which there is an empty one below the bar


@dataclass(frozen=True)
class Remark:
    """Something that was noticed, or written to standard error, after `step`.

    style: a name of `console.STYLES`; `mark` says the same without colour
    """

    step: int
    text: str
    mark: str = " "
    style: str = ""


@dataclass(frozen=True)
class TrainingState:
    """What there is to show of a phase of training.

    first_step:      steps that were done before it went on
    steps_per_epoch: rarely a whole number; 0 where it is not known
    elapsed:         seconds since the phase began or went on
    memory:          bytes
    skipped:         steps whose loss or gradient was not finite
    saved:           the step of the last checkpoint
    """

    phase: str
    step: int
    first_step: int
    total_steps: int
    steps_per_epoch: float = 0.0
    elapsed: float = 0.0
    loss: Curve = field(default_factory=Curve)
    held_out: Curve = field(default_factory=Curve)
    learning_rate: Curve = field(default_factory=Curve)
    grad_norm: Curve = field(default_factory=Curve)
    tokens_per_second: Curve = field(default_factory=Curve)
    memory: Curve = field(default_factory=Curve)
    remarks: Sequence[Remark] = ()
    skipped: int = 0
    saved: int | None = None

    @property
    def seconds_left(self) -> float | None:
        """By the steps so far; None before the first, and after the last."""
        done, left = self.step - self.first_step, self.total_steps - self.step
        return self.elapsed / done * left if done > 0 and left > 0 else None


def render(state: TrainingState, width: int, height: int) -> RenderableType:
    """The view of `state`: at most `height` lines, none wider than `width` columns.

    What matters least is left out where there is no room. Drawn in ASCII on a console whose
    encoding is not UTF-8.
    """
    width, height = max(1, width), max(1, height)
    return Lines(lambda glyphs: _lines(state, width, height, glyphs), width)


def _lines(state: TrainingState, width: int, height: int, glyphs: Glyphs) -> list[Line]:
    head = [_title(state), _bar(state, width, glyphs)][:height]
    rest = height - len(head) - 1
    if rest < 0:
        return head
    if height >= _AIRY:
        head, rest = [*head, []], rest - 1
    remarks = _remarks(state)
    remarks = remarks[len(remarks) - min(len(remarks), max(rest // 5, min(1, rest))) :]
    readings = _readings(state, width, glyphs)[: rest - len(remarks)]
    rows = rest - len(remarks) - len(readings) - 2
    drawn = _plot(state, width, rows, glyphs) if rows >= _LEAST_PLOT else []
    return [*head, _losses(state, glyphs), *drawn, *readings, *remarks]


def _title(state: TrainingState) -> Line:
    share = f" ({state.step / state.total_steps:.0%})" if state.total_steps else ""
    line = [
        (escape_controls(state.phase), "progress.task"),
        (f"  step {format_steps(state.step, state.total_steps)}{share}", ""),
    ]
    if math.isfinite(state.steps_per_epoch) and state.steps_per_epoch > 0:
        done, total = (n / state.steps_per_epoch for n in (state.step, state.total_steps))
        line.append((f"  epoch {done:.2f}/{total:.2f}", ""))
    left = state.seconds_left
    times = f"  {format_seconds(state.elapsed)}"
    return [*line, (times if left is None else f"{times}, {format_seconds(left)} left", "note")]


def _bar(state: TrainingState, width: int, glyphs: Glyphs) -> Line:
    share = state.step / state.total_steps if state.total_steps else 0.0
    done = min(width, max(0, int(share * width)))
    style = "bar.finished" if done == width else "bar.complete"
    return [(glyphs.done * done, style), (glyphs.left * (width - done), "frame")]


def _losses(state: TrainingState, glyphs: Glyphs) -> Line:
    line = [(format_field("loss", _or_dash(state.loss.last)), "title")]
    if state.held_out.points:
        last, _, _ = state.held_out.points[-1]
        line += [
            (f"   {glyphs.mark}", "warning"),
            (f" {format_field('held-out', _or_dash(state.held_out.last))} at step {last}", ""),
        ]
        if state.held_out.least is not None:
            step, value = state.held_out.least
            line.append((f", {format_field('best', value)} at {step}", "note"))
    return line


def _or_dash(value: float | None) -> float | str:
    return "–" if value is None else value


def _plot(state: TrainingState, width: int, rows: int, glyphs: Glyphs) -> list[Line]:
    """The loss over the steps of this phase, an axis and its steps: `rows` + 2 lines."""
    line = [(step, mean) for step, mean, _ in state.loss.points]
    marks = [(step, mean) for step, mean, _ in state.held_out.points]
    if not line:
        waiting = "waiting for the first step" if state.step == state.first_step else ""
        return [[(waiting or "no finite loss yet", "note")], *([] for _ in range(rows + 1))]
    steps = (line[0][0], max(state.step, line[-1][0]))
    found = framed(line, marks, width=width, rows=rows, steps=steps, glyphs=glyphs)
    if found is None:
        return [[] for _ in range(rows + 2)]
    return [
        *(
            [(label, "note"), (glyphs.axis, "frame"), *_marked(row, glyphs)]
            for label, row in zip(found.labels, found.rows, strict=True)
        ),
        [(found.floor, "frame")],
        [(found.below, "note")],
    ]


def _marked(row: str, glyphs: Glyphs) -> Iterator[Piece]:
    """A row of a plot, its marks in a style of their own."""
    for number, part in enumerate(row.split(glyphs.mark)):
        if number:
            yield glyphs.mark, "warning"
        yield part, "bar.complete"


def _readings(state: TrainingState, width: int, glyphs: Glyphs) -> list[Line]:
    """Numbers beside what they were, as sparklines."""
    shown: list[tuple[str, Callable[[float], str], Curve]] = [
        ("learning rate", "{:.3g}".format, state.learning_rate),
        ("gradient norm", "{:#.4g}".format, state.grad_norm),
        ("tokens/s", format_count, state.tokens_per_second),
        ("peak memory", format_bytes, state.memory),
    ]
    beside = 2 if width >= _WIDE else 1
    each = width // beside
    room = each - _LABEL - _VALUE - 3
    lines: list[Line] = []
    for start in range(0, len(shown), beside):
        line: Line = []
        for name, write, curve in shown[start : start + beside]:
            value = "–" if curve.last is None else write(curve.last)
            drawn = sparkline([(s, top) for s, _, top in curve.points], room, glyphs=glyphs)
            line += [
                (f"{name:<{_LABEL}}", "name"),
                (f"{value:>{_VALUE}} ", ""),
                (f"{drawn:<{max(0, room)}}  ", "bar.complete"),
            ]
        lines.append(line)
    return lines


def _remarks(state: TrainingState) -> list[Line]:
    """What was noticed, oldest first, and how things are with checkpoints and lost steps."""
    lines: list[Line] = [
        [(f"{each.mark} step {each.step}: {escape_controls(each.text)}", each.style)]
        for each in state.remarks
    ]
    facts = [f"saved at step {state.saved}"] if state.saved is not None else []
    if state.skipped:
        facts.append(f"{state.skipped} steps skipped, not finite")
    return [*lines, [("  " + ", ".join(facts), "note")]] if facts else lines
