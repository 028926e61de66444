"""How long a study may still take, by the runs of it that are finished (pure)."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

__all__ = ["seconds_left"]


def seconds_left(
    waiting: Sequence[str],
    running: Sequence[tuple[str, float]],
    seconds: Mapping[str, Sequence[float]],
    *,
    jobs: int,
) -> float | None:
    """An estimate; None where no run is finished.

    A run is taken to need the mean of its arm's finished runs, of all where its arm has none; what
    is left of all of them is shared by `jobs`, and no run ends before its own time. `waiting` are
    the arms of runs that wait, `running` those of runs that go on, with the seconds since they
    began; `seconds` are what finished runs took, by arm.

    >>> seconds_left(["a", "a", "b"], [("a", 4.0)], {"a": [10.0], "c": [20.0]}, jobs=1)
    41.0
    """
    known = [each for found in seconds.values() for each in found]
    if not known:
        return None
    means = {arm: statistics.fmean(found) for arm, found in seconds.items() if found}
    of_all = statistics.fmean(known)
    rest = [max(0.0, means.get(arm, of_all) - age) for arm, age in running]
    work = sum(rest) + sum(means.get(arm, of_all) for arm in waiting)
    return max([work / jobs, *rest])
