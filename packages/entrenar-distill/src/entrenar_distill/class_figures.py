"""What classifiers made of texts, as figures with intervals over texts."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from entrenar_core.train.evaluate import BINS
from entrenar_distill.intervals import Figure, IntervalMethod, Sample

__all__ = ["ClassFigures", "class_figures", "log_softmax"]

_COUNT, _NATS, _HITS, _AGREED, _KL = range(5)
_FIXED = 5
"""Sums of one model: those above, Σ (hit − confidence) of each bin, and of each class how many were
rightly given it, were given it, and are of it."""

Statistic = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class ClassFigures:
    """The figures of each model by name, and the difference of student and control, None without.

    Without labels there are only those beside the teacher.
    """

    how: IntervalMethod
    models: dict[str, dict[str, Figure | None]]
    difference: dict[str, Figure] | None


def class_figures(
    logits: Mapping[str, np.ndarray], labels: np.ndarray | None, *, seed: int
) -> ClassFigures:
    """The figures of models by their logits (N, C), the teacher's under "teacher", and the true
    classes `labels` (N,), None where they are not known.

    The most likely class is the answer, of equal ones the first; confidence is its probability.
    """
    expected = log_softmax(logits["teacher"])
    sums = {name: _sums(log_softmax(each), expected, labels) for name, each in logits.items()}
    width = next(iter(sums.values())).shape[1]
    sample = Sample(np.hstack(list(sums.values())), over="texts", seed=seed)
    starts = {name: i * width for i, name in enumerate(sums)}
    known = labels is not None
    figures = {name: _figures(sample, start, width, known) for name, start in starts.items()}
    figures["teacher"] |= {"agreement": None, "kl": None}
    difference = None
    if "control" in starts:
        difference = _difference(sample, starts["student"], starts["control"], width)
    return ClassFigures(sample.how, figures, difference)


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
    # bin i has confidences above i/BINS up to (i + 1)/BINS
    bins = np.clip(np.ceil(confidence * BINS) - 1, 0, BINS - 1).astype(np.int64)
    gaps = np.zeros((count, BINS))
    gaps[rows, bins] = hits - confidence
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


def _difference(sample: Sample, student: int, control: int, width: int) -> dict[str, Figure]:
    def between(make: Callable[[int], Statistic]) -> Figure:
        mine, other = make(student), make(control)
        return sample.figure(lambda sums: mine(sums) - other(sums))

    return {
        "loss": between(lambda start: _mean(start, _NATS)),
        "accuracy": between(lambda start: _mean(start, _HITS)),
        "macro_f1": between(lambda start: _macro_f1(start, width)),
    }


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
