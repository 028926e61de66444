"""Whether something goes on, and not just happens now and then."""

from collections import deque

__all__ = ["Sustained"]

_CALM = 20


class Sustained:
    """A switch that goes on where a step was off in `needed` of the last `of` steps and those that
    were took `seconds` by now, and off again after 20 steps in a row that were not: so a change is
    told once. The seconds are for what a busy machine does to a training: short steps are many in
    the time for which another process has the processor."""

    def __init__(self, needed: int, of: int, *, seconds: float = 0.0):
        self.on = False
        self._needed, self._last = needed, deque([False] * of, maxlen=of)
        self._calm, self._lasted, self._least = 0, 0.0, seconds

    def take(self, off: bool, seconds: float = 0.0, *, sure: bool = False) -> bool:
        """Count a step of so many seconds; whether it is the one at which the switch went on.
        `sure`: one such step is enough."""
        off = off or sure
        self._last.append(off)
        self._calm = 0 if off else self._calm + 1
        broken = sum(self._last) == 0
        self._lasted = 0.0 if broken else self._lasted + seconds * off
        before = self.on
        if self._calm >= _CALM:
            self.on = False
        elif sure or (sum(self._last) >= self._needed and self._lasted >= self._least):
            self.on = True
        return self.on and not before
