"""What classifiers made of texts, as figures with intervals over texts."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from entrenar_core.train.evaluate import BINS
from entrenar_distill.calibration import CalibrationBin, bin_of, bins_of
from entrenar_distill.intervals import Figure, IntervalMethod, Sample, Statistic, minus

__all__ = ["ClassFigures", "class_bins", "class_figures", "log_softmax"]

_COUNT, _NATS, _HITS, _AGREED, _KL = range(5)
_FIXED = 5
"""Sums of one model: those above, Σ (hit − confidence) of each bin, and of each class how many were
rightly given it, were given it, and are of it."""


@dataclass(frozen=True)
class ClassFigures:
    """The figures of each model by name, and the differences of models to one of them by name.

    Without labels there are only those beside the teacher.
    """

    how: IntervalMethod
    models: dict[str, dict[str, Figure | None]]
    differences: dict[str, dict[str, Figure]]

    def of_labels(self, name: str) -> dict[str, Figure] | None:
        """The difference of the model called `name` in what labels are needed for, None without
        one."""
        found = self.differences.get(name)
        return None if found is None else {k: v for k, v in found.items() if k != "kl"}


def class_figures(
    logits: Mapping[str, np.ndarray],
    labels: np.ndarray | None,
    *,
    seed: int,
    teacher: str | None = "teacher",
    first: str = "control",
) -> ClassFigures:
    """The figures of models by their logits (N, C) and the true classes `labels` (N,), None where
    they are not known; `teacher` and `first` name the ones that the others are compared with, and
    are subtracted, which need not be there.

    The most likely class is the answer, of equal ones the first; confidence is its probability.
    """
    told = {name: log_softmax(each) for name, each in logits.items()}
    sums = {n: _sums(each, told.get(teacher or n, each), labels) for n, each in told.items()}
    width = next(iter(sums.values())).shape[1]
    sample = Sample(np.hstack(list(sums.values())), over="texts", seed=seed)
    starts = {name: i * width for i, name in enumerate(sums)}
    known = labels is not None
    figures = {name: _figures(sample, start, width, known) for name, start in starts.items()}
    for name in logits if teacher is None else [teacher]:
        figures[name] |= {"agreement": None, "kl": None}
    compared = _comparable(width, labels=known, teacher=teacher is not None)
    differences = {
        name: _difference(sample, compared, start, starts[first])
        for name, start in starts.items()
        if first in starts and name not in (teacher, first)
    }
    return ClassFigures(sample.how, figures, differences)


def class_bins(logits: np.ndarray, labels: np.ndarray) -> tuple[CalibrationBin, ...]:
    """The texts by the probability of the answer, of logits (N, C) and true classes (N,)."""
    found = log_softmax(logits)
    best = found.argmax(axis=1)
    confidence = np.exp(found[np.arange(len(found)), best])
    sums = np.zeros((BINS, 3))
    each = np.column_stack([np.ones(len(found)), confidence, best == labels])
    np.add.at(sums, bin_of(confidence), each)
    return bins_of(sums)


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """log softmax of rows (N, C), in float64."""
    wide = logits.astype(np.float64)
    wide -= wide.max(axis=1, keepdims=True)
    return wide - np.log(np.exp(wide).sum(axis=1, keepdims=True))


def _sums(found: np.ndarray, expected: np.ndarray, labels: np.ndarray | None) -> np.ndarray:
    """(N, 5 + BINS + 3·C) of log-probabilities (N, C)."""
    count, classes = found.shape
    rows, best = np.arange(count), found.argmax(axis=1)
    true = best if labels is None else labels
    hits = best == true
    confidence = np.exp(found[rows, best])
    gaps = np.zeros((count, BINS))
    gaps[rows, bin_of(confidence)] = hits - confidence
    kl = (np.exp(expected) * (expected - found)).sum(axis=1)
    fixed = [np.ones(count), -found[rows, true], hits, best == expected.argmax(axis=1), kl]
    given, right = np.eye(classes)[best], np.eye(classes)[true]
    return np.column_stack([*fixed, gaps, given * right, given, right])


def _figures(sample: Sample, start: int, width: int, known: bool) -> dict[str, Figure | None]:
    shown: dict[str, Figure | None] = dict.fromkeys(("loss", "accuracy", "macro_f1", "ece"))
    if known:
        bins = slice(start + _FIXED, start + _FIXED + BINS)
        shown = {
            "loss": sample.figure(_mean(start, _NATS), least=0.0),
            "accuracy": sample.share(_mean(start, _HITS)),
            "macro_f1": sample.figure(_macro_f1(start, width), least=0.0, most=1.0),
            "ece": sample.distance(bins, start + _COUNT),
        }
    return {
        **shown,
        "agreement": sample.share(_mean(start, _AGREED)),
        "kl": sample.figure(_mean(start, _KL), least=0.0),
    }


def _comparable(
    width: int, *, labels: bool, teacher: bool
) -> dict[str, Callable[[int], Statistic]]:
    """What makes the figures of which there are differences, by name, from where a model's sums
    start."""
    found: dict[str, Callable[[int], Statistic]] = {}
    if labels:
        found["loss"] = lambda start: _mean(start, _NATS)
        found["accuracy"] = lambda start: _mean(start, _HITS)
        found["macro_f1"] = lambda start: _macro_f1(start, width)
    if teacher:
        found["kl"] = lambda start: _mean(start, _KL)
    return found


def _difference(
    sample: Sample, compared: Mapping[str, Callable[[int], Statistic]], model: int, first: int
) -> dict[str, Figure]:
    return {name: sample.figure(minus(make(model), make(first))) for name, make in compared.items()}


def _mean(start: int, column: int) -> Statistic:
    return lambda sums: sums[..., start + column] / sums[..., start + _COUNT]


def _macro_f1(start: int, width: int) -> Statistic:
    """The mean of 2·right/(given + true) over the classes that were given or are true."""
    first = start + _FIXED + BINS
    classes = (width - _FIXED - BINS) // 3

    def of(sums: np.ndarray) -> np.ndarray:
        right, given, true = (
            sums[..., first + i * classes : first + (i + 1) * classes] for i in range(3)
        )
        there = given + true > 0
        f1 = 2 * right / np.where(there, given + true, 1)
        return f1.sum(axis=-1) / there.sum(axis=-1)

    return of
