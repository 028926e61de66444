"""Who is told of a study while it is driven."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from entrenar_bench.study.records import Plan, Trial
from entrenar_bench.study.steps import Step
from entrenar_bench.study.store import Study

__all__ = ["Ended", "Watch"]


@dataclass(frozen=True)
class Ended:
    """A run that has just ended: with metrics, or with an error where they are None; `left` runs of
    the study wait or are under way."""

    trial: Trial
    metrics: Mapping[str, float] | None
    error: str | None
    left: int


class Watch:
    """Does nothing with what it is told; others override what they want to know.

    All is called in the driver's thread, which does nothing else meanwhile.
    """

    def opened(self, study: Study, plan: Plan, *, jobs: int) -> None:
        """The runs of `plan` that wait will be done, `jobs` at a time."""

    def began(self, trial: Trial) -> None:
        """A run was given to a worker."""

    def stepped(self, trial: Trial, steps: Sequence[Step]) -> None:
        """A run has done these steps, in this order."""

    def gave_back(self, trial: Trial) -> None:
        """A run that was begun waits again: it was interrupted, or another driver has it."""

    def ended(self, ended: Ended) -> None:
        """A run has finished or failed."""

    def grew(self, said: str) -> None:
        """Results have decided which runs come next, as is `said`."""

    def stopping(self) -> None:
        """It was asked to stop, and the runs that go on are ended."""

    def closed(self) -> None:
        """Nothing is done any more, for whatever reason."""

    def finished(self, study: Study) -> None:
        """Nothing was left to do."""
