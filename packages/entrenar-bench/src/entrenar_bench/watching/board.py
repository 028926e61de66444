"""Keeps account of a study that is driven, from what a `Watch` is told."""

from __future__ import annotations

import statistics
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

from entrenar_bench.statistics import Goal
from entrenar_bench.study import Ended, Plan, Status, Step, Study, Trial, Watch
from entrenar_bench.study.records import run_id
from entrenar_bench.watching.estimate import seconds_left
from entrenar_bench.watching.state import ArmState, RunState, StudyState
from entrenar_common.series import Series
from entrenar_common.text import escape_controls

__all__ = ["STOPPING", "Board"]

_POINTS = 256  # of a curve that goes on: terminals are not wider
_ENDED = 4  # so many finished runs are drawn
_REMARKS = 50
_NOT_RUN = (Status.HELD, Status.PRUNED, Status.DROPPED)
STOPPING = "stopping: what runs is saved where it can be; Ctrl-C again does not wait for that"
_MESSAGES = 8  # over so many the rate of steps is taken


class _Going:
    """A run that goes on."""

    def __init__(self, trial: Trial, began: float) -> None:
        self.trial, self.began = trial, began
        self.step = Step(0)
        self.loss = Series(_POINTS)
        self._heard = deque[tuple[float, int]](maxlen=_MESSAGES)

    def take(self, steps: Sequence[Step], now: float) -> None:
        for step in steps:
            if step.phase != self.step.phase:
                self._heard.clear()
            self.step = step
            if step.metrics:
                value = step.metrics.get("loss", next(iter(step.metrics.values())))
                self.loss.add(step.number, value)
        if steps:
            self._heard.append((now, self.step.number))

    def state(self) -> RunState:
        step = self.step
        return RunState(
            self.trial.arm,
            self.trial.seed,
            step.phase,
            step.number,
            step.total,
            self._rate(),
            [(number, mean) for number, mean, _ in self.loss.curve().points],
        )

    def _rate(self) -> float | None:
        if not self._heard:
            return None
        (first, low), (last, high) = self._heard[0], self._heard[-1]
        return (high - low) / (last - first) if last > first else None


class Board(Watch):
    """The runs of a plan, of which `metric` is shown; `state` may be called in any thread.

    What other drivers of the study have done is seen when a run ends here. Of a plan that grows,
    nobody knows how long it will take.
    """

    def __init__(
        self, metric: str, goal: Goal, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._metric, self._clock = metric, clock
        self._goal: Goal = goal
        self._lock = threading.Lock()
        self._reset("", 1)

    def _reset(self, name: str, jobs: int) -> None:
        self._name, self._jobs, self._began = name, jobs, self._clock()
        self._study: Study | None = None
        self._grows = False
        self._wanted = dict[str, str]()  # runs, and the arm of each
        self._arms = dict[str, None]()
        self._status = dict[str, Status]()
        self._values = dict[str, float]()
        self._seconds = dict[str, list[float]]()
        self._going = dict[str, _Going]()
        self._ended = deque[RunState](maxlen=_ENDED)
        self._remarks = deque[str](maxlen=_REMARKS)

    # ---- what it is told ------------------------------------------------------------------------

    def opened(self, study: Study, plan: Plan, *, jobs: int) -> None:
        with self._lock:
            self._reset(plan.name, jobs)
            self._study, self._grows = study, plan.rule is not None
            self._arms = {arm.name: None for arm in plan.arms}
            self._wanted = {
                run_id(arm.config, seed): arm.name for arm in plan.arms for seed in plan.seeds
            }
            self._look_up()

    def began(self, trial: Trial) -> None:
        with self._lock:
            self._arms.setdefault(trial.arm)
            self._wanted[trial.run] = trial.arm
            self._status[trial.run] = Status.RUNNING
            self._going[trial.run] = _Going(trial, self._clock())

    def stepped(self, trial: Trial, steps: Sequence[Step]) -> None:
        with self._lock:
            if trial.run in self._going:
                self._going[trial.run].take(steps, self._clock())

    def gave_back(self, trial: Trial) -> None:
        with self._lock:
            self._status[trial.run] = Status.WAITING
            self._going.pop(trial.run, None)

    def ended(self, ended: Ended) -> None:
        trial = ended.trial
        with self._lock:
            going = self._going.pop(trial.run, None)
            if ended.metrics is None:
                self._remark(f"! {trial.arm}, seed {trial.seed}: failed: {ended.error}")
            elif going is not None:
                self._ended.appendleft(going.state())
            self._look_up()

    def grew(self, said: str) -> None:
        self.wrote(said)

    def stopping(self) -> None:
        self.wrote(STOPPING)

    def wrote(self, line: str) -> None:
        """Somebody wrote a line to standard error."""
        with self._lock:
            self._remark(f"  {line}")

    # ---- what it knows --------------------------------------------------------------------------

    def state(self) -> StudyState:
        """The study now."""
        with self._lock:
            now = self._clock()
            waiting = [arm for run, arm in self._wanted.items() if self._is(run, Status.WAITING)]
            running = [(going.trial.arm, now - going.began) for going in self._going.values()]
            return StudyState(
                self._name,
                self._metric,
                self._goal,
                now - self._began,
                None
                if self._grows
                else seconds_left(waiting, running, self._seconds, jobs=self._jobs),
                tuple(map(self._arm, self._arms)),
                tuple(going.state() for going in self._going.values()),
                tuple(self._ended),
                tuple(self._remarks),
            )

    def _look_up(self) -> None:
        """How the runs are in the study; in the driver's thread, whose study it is."""
        study = self._study
        assert study is not None  # it was opened
        trials = study.trials()
        self._status = {trial.run: trial.status for trial in trials}
        if self._grows:  # results decide which runs there are
            self._wanted = {t.run: t.arm for t in trials if t.status not in _NOT_RUN}
            self._arms.update(dict.fromkeys(self._wanted.values()))
        measured = study.measured()
        self._values = {
            run: measured[run][self._metric]
            for run in self._wanted
            if self._metric in measured.get(run, {})
        }
        self._seconds = {}
        for attempt in study.attempts():
            arm = self._wanted.get(attempt.run)
            if arm is not None and attempt.outcome == "finished" and attempt.ended is not None:
                self._seconds.setdefault(arm, []).append(attempt.ended - attempt.started)

    def _is(self, run: str, status: Status) -> bool:
        return self._status.get(run) is status

    def _arm(self, name: str) -> ArmState:
        runs = [run for run, arm in self._wanted.items() if arm == name]
        found = [self._status.get(run) for run in runs]
        seconds = self._seconds.get(name)
        return ArmState(
            name,
            len(runs),
            tuple(run for run in runs if self._is(run, Status.FINISHED)),
            found.count(Status.RUNNING),
            found.count(Status.FAILED),
            tuple(self._values[run] for run in runs if run in self._values),
            statistics.fmean(seconds) if seconds else None,
        )

    def _remark(self, text: str) -> None:
        self._remarks.append(escape_controls(text))
