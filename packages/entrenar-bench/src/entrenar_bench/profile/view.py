"""A profile as tables."""

from collections.abc import Sequence
from typing import Any

from entrenar_bench.profile.record import Ceilings, Memory, OperationTime, Profile, Time
from entrenar_common.tables import Fields, Table
from entrenar_common.units import format_bytes

__all__ = ["MODULES", "OPERATIONS", "memory_part", "view"]

OPERATIONS, MODULES = 20, 24
"""Rows that are shown; a record as JSON has all."""


def view(profile: Profile) -> Sequence[Any]:
    """The parts that show a profile; times are of one step, on average."""
    steps = profile.steps
    parts: list[Any] = [
        _summary(profile),
        _times("Phases", profile.phases, steps),
        _times("By model", profile.parties, steps),
        _operations(profile),
        _modules(profile),
    ]
    if profile.memory is not None:
        parts.append(memory_part(profile.memory))
    return parts


def _summary(profile: Profile) -> Fields:
    watching = profile.watching
    tokens = sum(step.tokens for step in profile.taken if not step.watched)
    seconds = sum(step.seconds for step in profile.taken if not step.watched)
    items: list[tuple[str, Any]] = [
        ("of", profile.subject),
        ("steps watched", f"{profile.steps}, and as many that were not, in turns"),
        ("a step", f"{_ms(watching.unwatched)} ms, watched {_ms(watching.watched)} ms (medians)"),
        ("watching costs", f"{watching.cost:+.1%}, {watching.spans_per_step:.0f} spans a step"),
        ("tokens a second", f"{tokens / seconds:,.0f}, of the steps that nobody watched"),
    ]
    if profile.ceilings is not None:
        items.append(("this machine reaches", _reach(profile.ceilings)))
    return Fields("Profile", items)


def _reach(ceilings: Ceilings) -> str:
    return (
        f"{ceilings.gflops:.4g} GFLOP/s in a matrix product, {ceilings.gigabytes:.4g} GB/s in a "
        "copy"
    )


def _times(title: str, times: Sequence[Time], steps: int) -> Table:
    rows = [[t.name, _ms(t.seconds / steps), f"{t.share:.1%}"] for t in times]
    return Table(title, ["part", "ms a step", "share"], rows)


def _operations(profile: Profile) -> Table:
    columns = ["operation", "direction", "calls", "ms", "share", "GFLOP/s", "GB/s", "of best"]
    rows = [_operation(each, profile.steps) for each in profile.operations[:OPERATIONS]]
    caption = (
        "Of a step, without operations that one calls. GFLOP/s count matrix products alone, GB/s "
        "what an elementwise operation has to move at least. Losses over a vocabulary multiply "
        "their gradients on the way forward."
    )
    left = len(profile.operations) - OPERATIONS
    return Table("Operations", columns, rows, f"{caption} {left} more." if left > 0 else caption)


def _operation(found: OperationTime, steps: int) -> list[Any]:
    return [
        found.op,
        found.direction,
        f"{found.calls / steps:g}",
        _ms(found.seconds / steps),
        f"{found.share:.1%}",
        _digits(found.gflops),
        _digits(found.gigabytes),
        None if found.of_ceiling is None else f"{found.of_ceiling:.0%}",
    ]


def _modules(profile: Profile) -> Table:
    rows = [
        [
            found.module,
            found.modules,
            _ms(found.forward / profile.steps),
            _ms(found.backward / profile.steps),
            f"{found.share:.1%}",
        ]
        for found in profile.modules[:MODULES]
    ]
    columns = ["module", "modules", "forward, ms", "backward, ms", "share"]
    caption = "Operations of modules themselves; what is inside has a line of its own."
    left = len(profile.modules) - MODULES
    return Table("Modules", columns, rows, f"{caption} {left} more." if left > 0 else caption)


def memory_part(memory: Memory) -> Fields:
    """Lowest and peak, and where that was."""
    items = [
        (name, f"{format_bytes(m.resident_bytes)} in step {m.step}, at the end of {m.where}")
        for name, m in (("lowest", memory.lowest), ("peak", memory.peak))
    ]
    return Fields("Memory", items)


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.3f}"


def _digits(value: float | None) -> str | None:
    return None if value is None else f"{value:.4g}"
