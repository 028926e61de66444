"""A profile as a page: one file by itself, for a telephone as for a desk (pure)."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from entrenar_bench.profile.flame import FLAME_STYLE, flame
from entrenar_bench.profile.histogram import HISTOGRAM_STYLE, histogram
from entrenar_bench.profile.record import Memory, Profile
from entrenar_bench.profile.view import memory_part
from entrenar_common.tables import Fields, view
from entrenar_core.train.chart import Chart, chart, escaped
from entrenar_core.train.page_parts import framed, shown
from entrenar_core.train.page_style import STYLE
from entrenar_distill.page import facts_of, grid_of

__all__ = ["Shown", "profile_page"]

_MEBIBYTE = 2**20


@dataclass(frozen=True)
class Shown:
    """What a page has besides times."""

    loss_curves: bool = False
    memory_timeline: bool = False
    throughput_histogram: bool = False


def profile_page(profile: Profile, also: Shown) -> str:
    """The page of `profile` as HTML. Equal profiles give equal bytes."""
    summary, *tables = [_part(part) for part in view(profile) if part != _memory(profile.memory)]
    body = [
        f"<h1>Profile of {escaped(profile.subject)}</h1>",
        summary,
        "<h2>Flame graph</h2>",
        "<p>What was inside what, over all watched steps: below a frame is what it called, as wide "
        "as the time that it took. Equal layers are drawn as one.</p>",
        flame(profile.stacks, _models(profile)),
        "<h2>Time</h2>",
        *tables,
        *(_losses(profile) if also.loss_curves else []),
        *(_timeline(profile.memory) if also.memory_timeline else []),
        *(_throughput(profile) if also.throughput_histogram else []),
        "<h2>Machine</h2>",
        _part(_machine(profile.machine)),
    ]
    style = "\n".join([STYLE, FLAME_STYLE, HISTOGRAM_STYLE])
    return framed(f"Profile of {profile.subject}", body, style=style)


def _part(part: Any) -> str:
    return shown(facts_of(part) if isinstance(part, Fields) else grid_of(part))


def _memory(memory: Memory | None) -> Fields | None:
    return None if memory is None else memory_part(memory)


def _machine(machine: Any) -> Fields:
    return Fields("", [(field.name, getattr(machine, field.name)) for field in fields(machine)])


def _models(profile: Profile) -> Sequence[str]:
    """The names of what has a colour, in the order of the alphabet."""
    return sorted({stack.names[2] for stack in profile.stacks if len(stack.names) > 2})


def _losses(profile: Profile) -> list[str]:
    line = [(step.step, step.loss) for step in profile.taken]
    return ["<h2>Loss</h2>", _alone(chart(Chart("Loss of each step, watched or not", line)))]


def _timeline(memory: Memory | None) -> list[str]:
    if memory is None:
        return ["<h2>Memory</h2>", "<p>This system does not say what a process holds.</p>"]
    line = [(m.milliseconds, m.resident_bytes / _MEBIBYTE) for m in memory.timeline]
    found = Chart("Resident memory at the ends of spans", line, unit=" MiB", across="ms")
    return ["<h2>Memory</h2>", _alone(chart(found)), _part(memory_part(memory))]


def _throughput(profile: Profile) -> list[str]:
    title = "Steps that nobody watched, by their throughput"
    figure = histogram(title, profile.throughput, unit="tokens a second")
    return ["<h2>Throughput</h2>", _alone(figure)]


def _alone(figure: str) -> str:
    return f'<div class="charts">{figure}</div>'
