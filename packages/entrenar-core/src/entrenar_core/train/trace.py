"""Where the time and the memory of a run go: the one recorder, which all exporters listen to.

    with recorder.span("forward"):
        loss = ...

A span is told of when it ends, so those inside come before the one around them. The names are

    run ⊃ epoch ⊃ step ⊃ {data, forward, backward, optimizer}, evaluation, checkpoint

with `forward` and `backward` once for each micro-batch, and on request `op` inside them: of an
operation that another one calls too, both inside the same span. An `op` has the attributes `op`,
`direction` and `shapes`; `place` inside `nn.watching_modules`; `operations` or `bytes` where they
are counted.
"""

import mmap
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field

from entrenar_core.autograd.observe import Call, watching_operations

__all__ = ["Recorder", "Span"]

Attribute = str | int | float | bool


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of a run.

    number:         identifies it within the run, from 1
    parent:         number of the span around it; None for the outermost
    started, ended: nanoseconds of the recorder's clock
    resident_bytes: what the process held in memory at its end; 0 where the system does not say
    """

    name: str
    number: int
    parent: int | None
    started: int
    ended: int
    resident_bytes: int
    attributes: Mapping[str, Attribute]

    @property
    def seconds(self) -> float:
        return (self.ended - self.started) / 1e9


@dataclass(slots=True)
class Open:
    """A span that has not ended."""

    name: str
    number: int
    parent: int | None
    started: int
    attributes: dict[str, Attribute] = field(default_factory=dict)


class Recorder:
    """Makes spans and tells `listeners` of each when it ends. Without listeners nothing is done.

    Spans are of the thread that trains. `operations`: also tell of every operation, which takes
    time of its own. `clock` counts nanoseconds; with another than `time.perf_counter_ns`, the spans
    of operations are not on it.
    """

    def __init__(
        self,
        listeners: Sequence[Callable[[Span], None]] = (),
        *,
        operations: bool = False,
        clock: Callable[[], int] = time.perf_counter_ns,
    ):
        self.operations = operations and bool(listeners)
        self.zero = time.time_ns() - clock()
        """Nanoseconds since 1970 when the clock was at 0, as the system told the time then."""
        self._listeners, self._clock = tuple(listeners), clock
        self._stack: list[Open] = []
        self._numbers = 0

    @property
    def recording(self) -> bool:
        """Whether anybody listens."""
        return bool(self._listeners)

    @property
    def depth(self) -> int:
        """How many spans are open."""
        return len(self._stack)

    def begin(self, name: str, **attributes: Attribute) -> None:
        """Open a span inside the one that is open."""
        if self._listeners:
            self._stack.append(self._opened(name, attributes))

    def end(self, **attributes: Attribute) -> None:
        """End the innermost span that is open, with these attributes too; none may be."""
        if self._stack:
            span = self._stack.pop()
            self._tell(span, self._clock(), {**span.attributes, **attributes})

    @contextmanager
    def span(self, name: str, **attributes: Attribute) -> Iterator[None]:
        """What is done inside is a span. An error leaves it, and those inside, with the attribute
        `error`, the name of its class."""
        self.begin(name, **attributes)
        depth = len(self._stack)
        try:
            yield
        except BaseException as error:
            self.unwind(depth - 1, error=type(error).__name__)
            raise
        self.end()

    def unwind(self, depth: int = 0, **attributes: Attribute) -> None:
        """End the open spans until `depth` are left."""
        while len(self._stack) > max(0, depth):
            self.end(**attributes)

    def watching(self) -> AbstractContextManager[None]:
        """Inside, operations are spans too, if they were asked for."""
        return watching_operations(self._operation) if self.operations else nullcontext()

    def _operation(self, call: Call) -> None:
        attributes: dict[str, Attribute] = {
            "op": call.name, "direction": call.direction, "shapes": repr(call.shapes),
        }  # fmt: skip
        known = {"place": call.place or None, **call.work._asdict()}
        attributes |= {name: value for name, value in known.items() if value is not None}
        span = self._opened("op", attributes)
        span.started = call.started
        self._tell(span, call.ended, span.attributes)

    def _opened(self, name: str, attributes: dict[str, Attribute]) -> Open:
        self._numbers += 1
        parent = self._stack[-1].number if self._stack else None
        return Open(name, self._numbers, parent, self._clock(), attributes)

    def _tell(self, span: Open, ended: int, attributes: Mapping[str, Attribute]) -> None:
        told = Span(
            span.name, span.number, span.parent, span.started, ended, resident_bytes(), attributes
        )
        for listener in self._listeners:
            listener(told)


def resident_bytes() -> int:
    """What this process holds in memory now; 0 where the system does not say."""
    try:
        with open("/proc/self/statm", "rb", buffering=0) as file:
            return int(file.read().split()[1]) * mmap.PAGESIZE
    except OSError:
        return 0
