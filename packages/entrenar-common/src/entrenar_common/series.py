"""A number over the steps of a training, kept in bounded memory (pure)."""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["Curve", "Series"]

_LARGEST = 1e300  # what is greater is as good as infinite, and sums and differences stay finite


@dataclass(frozen=True)
class Curve:
    """What a number was over the steps, as it is drawn.

    points: (first step, mean, greatest value) of stretches of equal length, oldest first
    last:   the last value, also where it is not finite; None before the first
    least:  (step, value) of the least of all; None where none was finite
    """

    points: tuple[tuple[int, float, float], ...] = ()
    last: float | None = None
    least: tuple[int, float] | None = None


class Series:
    """Takes values in the order of their steps; steps fall into stretches of equal length.

    There are at most `capacity` stretches: before there are more, each two become one. What is not
    finite, or as large as if it were not, is left out.
    """

    def __init__(self, capacity: int = 512) -> None:
        self._capacity = capacity
        self._length = 1
        # first step // length, how many values, their sum, the greatest
        self._stretches: list[tuple[int, int, float, float]] = []
        self._first = 0
        self._last: float | None = None
        self._least: tuple[int, float] | None = None

    def add(self, step: int, value: float | None) -> None:
        """The value of one step; None, as a log has what is not finite, is NaN."""
        self._last = number = math.nan if value is None else value
        if not abs(number) < _LARGEST:
            return
        if self._least is None or number < self._least[1]:
            self._least = (step, number)
        if not self._stretches:
            self._first = step
        self._append((step // self._length, 1, number, number))
        while len(self._stretches) > self._capacity:
            self._halve()

    def curve(self) -> Curve:
        """What there is now."""
        points = tuple(
            (max(self._first, place * self._length), total / count, greatest)
            for place, count, total, greatest in self._stretches
        )
        return Curve(points, self._last, self._least)

    def _append(self, added: tuple[int, int, float, float]) -> None:
        if self._stretches and self._stretches[-1][0] == added[0]:
            place, count, total, greatest = self._stretches.pop()
            added = (place, count + added[1], total + added[2], max(greatest, added[3]))
        self._stretches.append(added)

    def _halve(self) -> None:
        """Make the stretches twice as long."""
        before, self._stretches, self._length = self._stretches, [], 2 * self._length
        for place, count, total, greatest in before:
            self._append((place // 2, count, total, greatest))
