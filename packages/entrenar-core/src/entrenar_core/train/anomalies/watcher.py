"""Judges the steps of a training, one after the other, by their numbers alone."""

import math
from collections import deque

import numpy as np
import numpy.typing as npt

from entrenar_common.units import format_bytes, format_duration
from entrenar_core.train.anomalies.figures import COMPUTE, CPU, DATA, LOSS, NORM, StepFigures
from entrenar_core.train.anomalies.finding import Finding
from entrenar_core.train.anomalies.kinds import Kinds
from entrenar_core.train.anomalies.robust import Rise, Trend, Usual
from entrenar_core.train.anomalies.section import AnomaliesSection
from entrenar_core.train.anomalies.sustained import Sustained

__all__ = ["Watcher"]

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

WARM_UP = 30
"""Steps that are not judged: kernels are loaded, caches fill, memory is allocated."""
LOOK, FIT = 10, 50
"""After so many steps what is usual, and what kinds of steps there are, is computed again."""
UNLIKE = 3.0
"""The outlier score from which on a step is of no kind that is known."""
MATERIAL = 0.25
"""The share of a usual step that has to be lost before it is worth a notice."""
STEADY = 0.85
"""`Rise.steady` of a steady rise; five stairs or fewer have less."""
GROWN, RISEN = 0.01, 0.1
"""The share of its memory that a process has to gain in the steps of a trend, and the loss of
itself."""
SHARED, SIBLINGS = 1.5, 2.5
"""A step whose time has grown by the first factor more than its processor time has waits for a
processor that others use, which is no fault of the machine. Processor time itself doubles where
they run on the other thread of the same core, and does no more than that without a fault."""
_SHOWN = 10
"""A value in a notice is the median of so many steps."""
_DIVERGE = {LOSS: ("loss", "the loss"), NORM: ("grad_norm", "the norm of the gradient")}


class Watcher:
    """Takes the figures of every step, and says what is off that was not before.

    A figure is off where it is `settings.threshold` robust standard deviations above the median of
    the last `settings.window` steps (`Usual`) and the step is like none of the kinds of steps among
    them (`Kinds`). What it is taken for:

    data-stall:    data time is off, and most of what the step lost was lost there
    throttling:    processor time is off, most was lost in computing, and the loss is not off: the
                   processor takes longer for the same work
    divergence:    the loss is off, or the norm is and the loss is no lower than usual, or the loss
                   has a steady upward trend, or a step is lost to what is not finite
    memory-growth: private memory has a steady upward trend

    A level has to stay off for several steps (`Sustained`), as a machine that other processes use
    too is slow now and then. The same numbers give the same findings. What is kept is `window`
    vectors.
    """

    def __init__(self, settings: AnomaliesSection | None = None, *, seed: int = 0):
        self.settings, self._seed = settings or AnomaliesSection.model_validate({}), seed
        self._vectors: deque[tuple[float, ...]] = deque(maxlen=self.settings.window)
        self._usual: Usual | None = None
        self._fitted: tuple[Usual, Kinds] | None = None
        self._taken = 0
        self.outlier_score = math.nan
        """Of the last step, see `Kinds.outlier_score`; NaN before there are kinds."""
        self._recent: deque[StepFigures] = deque(maxlen=_SHOWN)
        self._stalled, self._slow = Sustained(8, 10, seconds=0.25), Sustained(10, 12, seconds=2.0)
        self._diverging, self._growing = Sustained(5, 6), Sustained(1, 1)
        self._memory = [Trend(every=1, points=16), Trend(every=16, points=20)]
        self._losses = Trend(every=8, points=20)

    def take(self, figures: StepFigures) -> list[Finding]:
        """What has begun, as far as this step and those before it show."""
        self._taken += 1
        self._recent.append(figures)
        found = [self._growth(figures)]
        if figures.finite:
            vector = np.array(figures.vector())
            rises = self._losses.take(figures.loss, RISEN)
            if self._usual is not None:
                found += self._levels(figures, self._usual, vector, rises)
            self._learn(vector)
        else:
            found.append(self._lost(figures))
        ignored = self.settings.ignore
        return [each for each in found if each is not None and each.kind not in ignored]

    def _learn(self, vector: Floats) -> None:
        """Make the step one of those that say what is usual."""
        self._vectors.append(tuple(vector))
        if self._taken < WARM_UP:
            return
        if self._usual is None or self._taken % LOOK == 0:
            self._usual = Usual.of(np.array(self._vectors))
        if self._fitted is None or self._taken % FIT == 0:
            scores = self._usual.scores(np.array(self._vectors))
            fit = self._taken // FIT
            kinds = Kinds.of(scores, self.settings.clusters, seed=self._seed, fit=fit)
            self._fitted = self._usual, kinds

    def _levels(
        self, figures: StepFigures, usual: Usual, vector: Floats, rises: Rise | None
    ) -> list[Finding | None]:
        scores = usual.scores(vector)
        off = (scores > self.settings.threshold) & self._unlike(vector)
        loss_off = bool(off[LOSS] or (off[NORM] and figures.loss >= usual.median[LOSS]))
        found = [self._divergence(figures, scores, off=loss_off, rises=rises)]
        if not figures.disturbed:
            found += self._times(figures, usual, scores, off=off, diverges=loss_off)
        return found

    def _unlike(self, vector: Floats) -> bool:
        """Whether a step is of none of the kinds that were seen."""
        assert self._fitted is not None  # as old as what is usual
        scale, kinds = self._fitted
        self.outlier_score = kinds.outlier_score(scale.scores(vector))
        return self.outlier_score > UNLIKE

    def _times(
        self, figures: StepFigures, usual: Usual, scores: Floats, *, off: Bools, diverges: bool
    ) -> list[Finding | None]:
        """Whether steps take longer, and where."""
        data, compute = (math.exp(usual.median[place]) for place in (DATA, COMPUTE))
        least = MATERIAL * (data + compute)
        waited, computed = figures.data_seconds - data, figures.compute_seconds - compute
        stalls = off[DATA] and waited > max(least, computed)
        slows = computed >= max(least, waited) and self._throttled(figures, usual, off)
        found: list[Finding | None] = []
        if self._stalled.take(bool(stalls), figures.step_seconds):
            value = self._shown("data_seconds")
            seen = f"a step waits {_change(value, data)}, for its data"
            score = float(scores[DATA])
            found.append(
                Finding("data-stall", figures.step, "data_seconds", value, data, seen, score)
            )
        if self._slow.take(bool(slows) and not diverges, figures.step_seconds):
            value, usually = self._shown("cpu_seconds"), math.exp(usual.median[CPU])
            change = _change(value, usually)
            seen = f"a step takes {change} of processor time, with a loss as before"
            score = float(scores[CPU])
            found.append(
                Finding("throttling", figures.step, "cpu_seconds", value, usually, seen, score)
            )
        return found

    def _throttled(self, figures: StepFigures, usual: Usual, off: Bools) -> bool:
        """Whether the processor needs more time for the same, and is not merely used by others."""
        longer = figures.compute_seconds / math.exp(usual.median[COMPUTE])
        busier = figures.cpu_seconds / math.exp(usual.median[CPU])
        return bool(off[CPU]) and (longer < SHARED * busier or busier > SIBLINGS)

    def _divergence(
        self, figures: StepFigures, scores: Floats, *, off: bool, rises: Rise | None
    ) -> Finding | None:
        climbs = rises is not None and self._climbs(rises)
        if not self._diverging.take(off, sure=climbs):
            return None
        if climbs or scores[LOSS] >= scores[NORM]:
            return self._diverged(figures.step, LOSS, self._shown("loss"), scores[LOSS])
        return self._diverged(figures.step, NORM, self._shown("gradient_norm"), scores[NORM])

    def _lost(self, figures: StepFigures) -> Finding | None:
        """A step that was lost is sure at once."""
        if not self._diverging.take(True, sure=True):
            return None
        if math.isfinite(figures.loss):
            return self._diverged(figures.step, NORM, figures.gradient_norm, math.inf)
        return self._diverged(figures.step, LOSS, figures.loss, math.inf)

    def _diverged(self, step: int, place: int, value: float, score: float) -> Finding:
        figure, name = _DIVERGE[place]
        usual, seen = math.nan, f"{name} is {value:.4g}"
        if self._usual is not None:
            median = float(self._usual.median[place])
            usual = math.exp(median) if place == NORM else median
            seen += f", usually {usual:.4g}"
        return Finding("divergence", step, figure, value, usual, seen, float(score))

    def _growth(self, figures: StepFigures) -> Finding | None:
        if not figures.private_bytes or self._taken <= WARM_UP:
            return None
        rises = [(trend.steps, trend.take(figures.private_bytes, GROWN)) for trend in self._memory]
        steep = [(n, rise) for n, rise in rises if rise is not None and self._climbs(rise)]
        if not self._growing.take(bool(steep)):
            return None
        steps, rise = steep[0]
        seen = (
            f"the process grew by {format_bytes(rise.height)} in {steps} steps, to "
            f"{format_bytes(rise.last)}, at a steady rate"
        )
        score = rise.height / max(rise.spread, GROWN * rise.first / self.settings.threshold)
        return Finding(
            "memory-growth", figures.step, "private_bytes", rise.last, rise.first, seen, score
        )

    def _climbs(self, rise: Rise) -> bool:
        return rise.steady >= STEADY and rise.height > self.settings.threshold * rise.spread

    def _shown(self, figure: str) -> float:
        """The median of the last steps."""
        return float(np.median([getattr(each, figure) for each in self._recent]))


def _change(value: float, usual: float) -> str:
    return f"{format_duration(value)}, usually {format_duration(usual)}"
