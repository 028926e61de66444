"""The learning rate as a function of the step."""

import math
from collections.abc import Callable

_DECAYS: dict[str, Callable[[float], float]] = {
    "constant": lambda _progress: 1.0,
    "linear": lambda progress: 1.0 - progress,
    "cosine": lambda progress: 0.5 * (1.0 + math.cos(math.pi * progress)),
}
SCHEDULES = tuple(_DECAYS)


def learning_rate(
    step: int, *, peak: float, warmup: int, total: int, schedule: str, floor_ratio: float
) -> float:
    """The rate of `step` (from 0): linear over the first `warmup` steps, reaching `peak` in the
    last of them, then by `schedule` down to peak · floor_ratio at `total`.

    >>> learning_rate(0, peak=1.0, warmup=4, total=10, schedule="cosine", floor_ratio=0.0)
    0.25
    """
    if step < warmup:
        return peak * (step + 1) / warmup
    progress = min(1.0, (step - warmup) / max(1, total - warmup))
    return peak * (floor_ratio + (1 - floor_ratio) * _DECAYS[schedule](progress))
