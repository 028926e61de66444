"""What the difference of student and control shows about distillation, in one sentence that claims
no more than it can."""

import math
from dataclasses import dataclass

UNKNOWN = "Cannot tell whether distillation helped: run with --control."
"""Where there is no control."""


@dataclass(frozen=True)
class Measure:
    """A figure that student and control are compared by.

    unit: what it is counted in, after a number; scale: what it is multiplied by to be shown, with
    so many digits; falls: less of it is better; over: what the interval is paired over.
    """

    unit: str
    over: str
    scale: float = 1.0
    digits: int = 4
    falls: bool = True


def verdict_on(
    measure: Measure, value: float, low: float, high: float, *, confidence: float, count: int
) -> str:
    """Of student minus control with its interval, over `count` held-out documents or texts."""
    if not all(map(math.isfinite, (value, low, high))):
        return (
            "Cannot tell whether distillation helped: the difference to the control has no "
            f"interval ({count} {measure.over})."
        )
    scale, digits = measure.scale, measure.digits
    size = f"{abs(value) * scale:.{digits}f} {measure.unit}"
    interval = (
        f"{confidence * 100:g} % interval of student minus control {low * scale:+.{digits}f} to "
        f"{high * scale:+.{digits}f}, paired over {count} {measure.over}"
    )
    better, worse = (high < 0, low > 0) if measure.falls else (low > 0, high < 0)
    if better:
        return f"Distillation helped by {size} ({interval})."
    if worse:
        return f"Distillation hurt by {size}: train without the teacher ({interval})."
    return f"No difference shown between student and control ({interval}; it contains 0)."
