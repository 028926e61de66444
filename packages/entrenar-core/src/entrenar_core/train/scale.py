"""The numbers beside a drawing: where they are and how they are written (pure)."""

import math
from collections.abc import Sequence

from entrenar_common.units import format_count

__all__ = ["labels_of", "ticks_of"]

_SAME = 1e-9  # values that differ by a smaller share are drawn as a constant
_TICKS = (3, 4, 5)  # how many lines a scale has


def ticks_of(low: float, high: float) -> list[float]:
    """Round numbers at equal distances, from at most `low` to at least `high`: of 3 to 5 of them
    those that leave the least room above and below."""
    largest = max(abs(low), abs(high))
    if high - low <= _SAME * largest:
        margin = largest / 10 or 1.0
        low, high = low - margin, high + margin
    found = [_round_ticks(low, high, count) for count in _TICKS]
    return min(found, key=lambda ticks: ticks[-1] - ticks[0])


def _round_ticks(low: float, high: float, count: int) -> list[float]:
    size = 10.0 ** math.floor(math.log10((high - low) / (count - 1)))
    for factor in (1, 2, 2.5, 5, 10, 20, 25, 50, 100):
        distance = factor * size
        start = math.floor(low / distance)
        if (start + count - 1) * distance >= high:
            return [(start + i) * distance for i in range(count)]
    return [low + (high - low) * i / (count - 1) for i in range(count)]


def labels_of(ticks: Sequence[float]) -> list[str]:
    """The numbers of a scale, with as many digits as they have."""
    largest, distance = max(abs(tick) for tick in ticks), ticks[1] - ticks[0]
    if largest >= 10_000 and all(math.isclose(float(f"{tick:.3g}"), tick) for tick in ticks):
        return [format_count(tick) for tick in ticks]
    forms = [f".{digits}f" for digits in range(7)] if 0.001 <= largest < 1e9 else []
    for form in [*forms, *(f".{digits}g" for digits in range(2, 17))]:
        texts = [format(tick + 0.0, form) for tick in ticks]
        if all(abs(float(s) - t) < distance / 1000 for s, t in zip(texts, ticks, strict=True)):
            return texts
    return [repr(tick) for tick in ticks]
