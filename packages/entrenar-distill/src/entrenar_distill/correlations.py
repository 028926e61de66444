"""How two rows of numbers go together: Pearson's correlation, and Spearman's, of their ranks."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from entrenar_distill.intervals import (
    Figure,
    IntervalMethod,
    Sample,
    Statistic,
    minus,
    percentiles,
    times_drawn,
)

__all__ = ["Correlations", "correlations", "spearman"]


@dataclass(frozen=True)
class Correlations:
    """`pearson` and `spearman` of each model by name, and the differences of models to one of them
    by name."""

    how: IntervalMethod
    models: dict[str, dict[str, Figure]]
    differences: dict[str, dict[str, Figure]]


def correlations(
    found: Mapping[str, np.ndarray], wanted: np.ndarray, *, seed: int, first: str
) -> Correlations:
    """How the numbers (N,) that models have `found` for pairs go together with those that are
    `wanted`, (N,); `first` is the model that is subtracted in differences.

    Of Spearman's, ranks are taken anew in each resampled set of pairs, equal values sharing their
    mean rank. It is no smooth function of sums, so that of few pairs it has no bounds.
    """
    centred = {name: each.astype(np.float64) - each.mean() for name, each in found.items()}
    y = wanted - wanted.mean()
    columns = [np.ones(len(y)), y, y * y]
    for x in centred.values():
        columns += [x, x * x, x * y]
    sample = Sample(np.column_stack(columns), over="pairs", seed=seed)
    linear = {name: _pearson(3 + 3 * i) for i, name in enumerate(found)}
    ranked = _resampled_spearman(found, wanted, sample.how)
    values = {name: spearman(each, wanted) for name, each in found.items()}
    models = {
        name: {
            "pearson": sample.figure(linear[name], least=-1.0, most=1.0),
            "spearman": _bounded(values[name], ranked.get(name), sample.how),
        }
        for name in found
    }
    differences: dict[str, dict[str, Figure]] = {}
    for name in found:
        if name == first:
            continue
        apart = ranked[name] - ranked[first] if ranked else None
        differences[name] = {
            "pearson": sample.figure(minus(linear[name], linear[first])),
            "spearman": _bounded(values[name] - values[first], apart, sample.how),
        }
    return Correlations(sample.how, models, differences)


def _pearson(start: int) -> Statistic:
    """The correlation, of sums that begin with those of 1, y and y², and have x, x² and x·y at
    `start`."""

    def of(sums: np.ndarray) -> np.ndarray:
        n, y, yy = np.moveaxis(sums[..., :3], -1, 0)
        x, xx, xy = np.moveaxis(sums[..., start : start + 3], -1, 0)
        with np.errstate(invalid="ignore", divide="ignore"):  # what does not vary has none
            size = np.sqrt(np.maximum(xx - x * x / n, 0) * np.maximum(yy - y * y / n, 0))
            return (xy - x * y / n) / size

    return of


def _bounded(value: float, resampled: np.ndarray | None, how: IntervalMethod) -> Figure:
    if resampled is None or np.isnan(value):
        return Figure(value)
    return Figure(value, *percentiles(resampled, how.confidence))


def _resampled_spearman(
    found: Mapping[str, np.ndarray], wanted: np.ndarray, how: IntervalMethod
) -> dict[str, np.ndarray]:
    """Spearman's correlation in each resampled set, (resamples,) of each model; of few pairs
    nothing."""
    if how.method != "bootstrap":
        return {}
    orders = {name: _Order(each) for name, each in found.items()}
    order = _Order(wanted)
    values = {name: np.empty(how.resamples) for name in found}
    for part, times in times_drawn(len(wanted), how):
        y = order.ranks(times)
        for name, each in orders.items():
            x = each.ranks(times)
            with np.errstate(invalid="ignore", divide="ignore"):
                size = np.sqrt((times * x * x).sum(axis=1) * (times * y * y).sum(axis=1))
                values[name][part] = (times * x * y).sum(axis=1) / size
    return values


class _Order:
    """The order of some numbers (N,), which is the same in every resampled set of them."""

    def __init__(self, x: np.ndarray) -> None:
        _, self._places, counts = np.unique(x, return_inverse=True, return_counts=True)
        self._sorted = np.argsort(x, kind="stable")
        self._starts = np.cumsum(counts) - counts

    def ranks(self, times: np.ndarray) -> np.ndarray:
        """The mean rank of each number, less the mean of all ranks, where the number is there
        `times` times: (R, N) → (R, N)."""
        equal = np.add.reduceat(times[:, self._sorted], self._starts, axis=1)  # (R, values)
        ranks = np.cumsum(equal, axis=1) - (equal - 1) / 2
        return ranks[:, self._places] - (times.sum(axis=1, keepdims=True) + 1) / 2


def spearman(x: np.ndarray, y: np.ndarray) -> float:
    """The correlation of the ranks of x (N,) and y (N,), equal values sharing their mean rank; NaN
    where all values are equal.

    >>> round(spearman(np.array([1.0, 5.0, 9.0]), np.array([0.1, 0.2, 7.0])), 6)
    1.0
    """
    a, b = (_Order(each).ranks(np.ones((1, len(each))))[0] for each in (x, y))
    size = np.sqrt((a * a).sum() * (b * b).sum())
    return float((a * b).sum() / size) if size else float("nan")
