"""The time of watched steps, divided: each nanosecond is in one row of each table (pure)."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from entrenar_bench.profile.frames import OPERATION, Frame
from entrenar_bench.profile.record import Ceilings, ModuleTime, OperationTime, Stack, Time

__all__ = ["Breakdown", "breakdown"]

PHASES = ("data", "forward", "backward", "optimizer")
OTHER = "other"
TEACHER, LOSS, BETWEEN = "teacher", "loss", "between operations"
_TEACHERS_OWN = {"teacher_logits"}
"""Operations that the loss has done for what a teacher says, outside of its modules."""
_NUMBER = re.compile(r"\.\d+(?=\.|$)")


@dataclass(frozen=True)
class Breakdown:
    """Tables whose times add up to those of the steps."""

    seconds: float
    phases: tuple[Time, ...]
    parties: tuple[Time, ...]
    operations: tuple[OperationTime, ...]
    modules: tuple[ModuleTime, ...]
    stacks: tuple[Stack, ...]


@dataclass(frozen=True)
class Part:
    """A frame of a step in what it is part of.

    phase:   the span directly inside the step, `other` for the step's own time
    party:   the model that an operation is done for, or what it is
    calling: the operations around it, the outermost first
    """

    frame: Frame
    phase: str
    party: str
    calling: tuple[str, ...]

    @property
    def is_operation(self) -> bool:
        return self.frame.span.name == OPERATION

    @property
    def direction(self) -> str:
        """Of an operation. What is computed on the way back to save memory goes forward again."""
        found = str(self.frame.span.attributes["direction"])
        return "again" if found == "forward" and self.phase == "backward" else found

    @property
    def place(self) -> str:
        return str(self.frame.span.attributes.get("place", ""))


@dataclass
class _Sum:
    calls: int = 0
    nanoseconds: int = 0
    backward: int = 0
    operations: int = 0
    bytes: int = 0
    names: set[str] = field(default_factory=set)


def breakdown(
    steps: Sequence[Frame], *, models: Sequence[str], ceilings: Ceilings | None = None
) -> Breakdown:
    """Divide the time of `steps`, frames of the spans `step`, among phases, the `models` whose
    modules were watched, operations, modules and stacks."""
    parts = [part for step in steps for part in _parts(step, models)]
    whole = sum(step.total for step in steps)
    return Breakdown(
        seconds=whole / 1e9,
        phases=_times(_phases(parts), whole),
        parties=_times(_parties(parts), whole),
        operations=_operations(parts, whole, ceilings),
        modules=_modules(parts, whole),
        stacks=_stacks(parts),
    )


def _parts(step: Frame, models: Sequence[str]) -> Iterator[Part]:
    yield Part(step, OTHER, OTHER, ())
    for frame in step.inside:
        name = frame.span.name
        known = name if name in PHASES else OTHER
        yield from _inside(frame, known, models, ())


def _inside(
    frame: Frame, phase: str, models: Sequence[str], calling: tuple[str, ...]
) -> Iterator[Part]:
    yield Part(frame, phase, _party(frame, phase, models), calling)
    if frame.span.name == OPERATION:
        calling = (*calling, str(frame.span.attributes["op"]))
    for inner in frame.inside:
        yield from _inside(inner, phase, models, calling)


def _party(frame: Frame, phase: str, models: Sequence[str]) -> str:
    """Whom a frame is for: a model, the loss, or no operation."""
    if frame.span.name != OPERATION:
        return BETWEEN if phase in ("forward", "backward") else phase
    if frame.span.attributes["op"] in _TEACHERS_OWN:
        return TEACHER
    place = str(frame.span.attributes.get("place", ""))
    found = [name for name in models if place == name or place.startswith(f"{name}.")]
    return max(found, key=len, default=LOSS)


# ---- tables ------------------------------------------------------------------------------------


def _times(sums: dict[str, int], whole: int) -> tuple[Time, ...]:
    return tuple(Time(name, ns / 1e9, ns / whole if whole else 0.0) for name, ns in sums.items())


def _phases(parts: Iterable[Part]) -> dict[str, int]:
    sums: dict[str, int] = dict.fromkeys((*PHASES, OTHER), 0)
    for part in parts:
        sums[part.phase] += part.frame.own
    return sums


def _parties(parts: Iterable[Part]) -> dict[str, int]:
    """The models' times by phase, the largest first, then those of no model."""
    sums: Counter[str] = Counter()
    for part in parts:
        name = f"{part.party}, {part.phase}" if part.is_operation else part.party
        sums[name] += part.frame.own
    return dict(sorted(sums.items(), key=lambda item: (-item[1], item[0])))


def _operations(
    parts: Iterable[Part], whole: int, ceilings: Ceilings | None
) -> tuple[OperationTime, ...]:
    sums: defaultdict[tuple[str, str], _Sum] = defaultdict(_Sum)
    for part in parts:
        if part.is_operation:
            attributes = part.frame.span.attributes
            found = sums[str(attributes["op"]), part.direction]
            found.calls += 1
            found.nanoseconds += part.frame.own
            found.operations += int(attributes.get("operations", 0))
            found.bytes += int(attributes.get("bytes", 0))
    ranked = sorted(sums.items(), key=lambda item: (-item[1].nanoseconds, item[0]))
    return tuple(_operation(*key, found, whole, ceilings) for key, found in ranked)


def _operation(
    op: str, direction: str, found: _Sum, whole: int, ceilings: Ceilings | None
) -> OperationTime:
    # 10⁹ in a second are as many as one in a nanosecond
    took = found.nanoseconds
    gflops = found.operations / took if found.operations and took else None
    gigabytes = found.bytes / took if found.bytes and took else None
    of_ceiling = None
    if ceilings is not None and gflops is not None:
        of_ceiling = gflops / ceilings.gflops
    elif ceilings is not None and gigabytes is not None:
        of_ceiling = gigabytes / ceilings.gigabytes
    share = took / whole if whole else 0.0
    return OperationTime(
        op, direction, found.calls, took / 1e9, share, gflops, gigabytes, of_ceiling
    )


def _modules(parts: Iterable[Part], whole: int) -> tuple[ModuleTime, ...]:
    sums: defaultdict[str, _Sum] = defaultdict(_Sum)
    for part in parts:
        if part.is_operation and part.place:
            found = sums[_NUMBER.sub(".*", part.place)]
            found.names.add(part.place)
            found.calls += 1
            found.nanoseconds += part.frame.own
            found.backward += part.frame.own if part.phase == "backward" else 0
    ranked = sorted(sums.items(), key=lambda item: (-item[1].nanoseconds, item[0]))
    return tuple(
        ModuleTime(
            name,
            len(found.names),
            found.calls,
            (found.nanoseconds - found.backward) / 1e9,
            found.backward / 1e9,
            found.nanoseconds / whole if whole else 0.0,
        )
        for name, found in ranked
    )


def _stacks(parts: Iterable[Part]) -> tuple[Stack, ...]:
    sums: Counter[tuple[str, ...]] = Counter()
    for part in parts:
        sums[_names(part)] += part.frame.own
    return tuple(Stack(names, sums[names] / 1e9) for names in sorted(sums))


def _names(part: Part) -> tuple[str, ...]:
    """The stack of a part: phase, party, the path of its module, operations."""
    outer = ("step",) if part.frame.span.name == "step" else ("step", part.phase)
    if not part.is_operation:
        return outer
    path = part.place.removeprefix(part.party).strip(".")
    # the number of a layer stays with what it is a number of
    modules = [name.replace("*", ".*") for name in _joined(path).split(".") if name]
    op = str(part.frame.span.attributes["op"])
    return (*outer, part.party, *modules, *part.calling, op)


def _joined(path: str) -> str:
    return _NUMBER.sub("*", path)
