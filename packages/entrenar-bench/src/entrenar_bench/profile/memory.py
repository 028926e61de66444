"""Memory over watched steps, from what spans say at their ends (pure)."""

from collections.abc import Iterator, Sequence

from entrenar_bench.profile.frames import OPERATION, Frame
from entrenar_bench.profile.record import Memory, Moment

__all__ = ["memory"]

_STRETCHES = 400
"""The timeline has the least and the greatest of each of so many equal stretches of moments."""


def memory(steps: Sequence[Frame]) -> Memory | None:
    """What was held when each span of `steps` ended; None where the system does not say."""
    if not steps:
        return None
    moments = [m for step in steps for m in _moments(step, steps[0].span.started)]
    if not any(moment.resident_bytes for moment in moments):
        return None
    lowest = min(moments, key=lambda m: m.resident_bytes)
    peak = max(moments, key=lambda m: m.resident_bytes)
    return Memory(lowest, peak, tuple(_fewer(moments)))


def _moments(step: Frame, began: int) -> Iterator[Moment]:
    number = int(step.span.attributes["step"])
    for frame in sorted(step.walk(), key=lambda f: f.span.ended):
        passed = (frame.span.ended - began) // 1_000_000
        yield Moment(passed, frame.span.resident_bytes, number, _where(frame))


def _where(frame: Frame) -> str:
    if frame.span.name != OPERATION:
        return frame.span.name
    attributes = frame.span.attributes
    place = attributes.get("place")
    found = f"{attributes['op']} {attributes['direction']}"
    return f"{found} in {place}" if place else found


def _fewer(moments: Sequence[Moment]) -> Iterator[Moment]:
    """Those in which a short stretch has its least and its greatest, in their order."""
    size = max(1, -(-len(moments) // _STRETCHES))
    for start in range(0, len(moments), size):
        stretch = range(start, min(start + size, len(moments)))
        low = min(stretch, key=lambda i: moments[i].resident_bytes)
        high = max(stretch, key=lambda i: moments[i].resident_bytes)
        yield from (moments[i] for i in sorted({low, high}))
