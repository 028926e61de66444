"""Spans of the recorder as trees: what was done inside what, and how long it took by itself."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from entrenar_core.train.trace import Span

__all__ = ["OPERATION", "Frame", "frames_of"]

OPERATION = "op"
"""The name of the spans of operations."""


@dataclass
class Frame:
    """A span and those directly inside it, in their order."""

    span: Span
    inside: list["Frame"] = field(default_factory=list)

    @property
    def total(self) -> int:
        """Nanoseconds from its beginning to its end."""
        return self.span.ended - self.span.started

    @property
    def own(self) -> int:
        """Nanoseconds in which it was the innermost."""
        return self.total - sum(frame.total for frame in self.inside)

    def walk(self) -> Iterator["Frame"]:
        """Itself and all that is inside, outer before inner."""
        yield self
        for frame in self.inside:
            yield from frame.walk()


def frames_of(spans: Iterable[Span]) -> list[Frame]:
    """The outermost of `spans`, which are in the order in which they ended.

    A span names the one around it. Operations name the span that they are in, also where another
    operation has called them: those are told apart by the time, as nothing overlaps in one thread.
    """
    waiting: dict[int | None, list[Frame]] = {}
    for span in spans:
        frame = Frame(span, waiting.pop(span.number, []))
        siblings = waiting.setdefault(span.parent, [])
        if span.name == OPERATION:
            while siblings and siblings[-1].span.started >= span.started:
                frame.inside.insert(0, siblings.pop())
        siblings.append(frame)
    return [frame for outermost in waiting.values() for frame in outermost]
