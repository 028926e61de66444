"""What masked language models made of hidden tokens, as figures with intervals over documents."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from entrenar_core.train.evaluate import BINS, TokenScores
from entrenar_distill.intervals import Figure, IntervalMethod, Sample, Statistic, minus

__all__ = ["MaskedFigures", "masked_figures"]

_TOKENS, _NATS, _HITS, _IN_TOP, _AGREED, _KL = range(6)
_FIXED = 6
"""Sums of one model: those above, and Σ (hit − confidence) of each bin."""
_WIDTH = _FIXED + BINS
_COMPARED = {"loss": _NATS, "accuracy": _HITS, "top5_accuracy": _IN_TOP}


@dataclass(frozen=True)
class MaskedFigures:
    """The figures of each model by name, and the differences of models to one of them by name.

    `loss`, nats per hidden token; `accuracy` and `top5_accuracy`, how often the token is the most
    likely one, or one of five; `ece`, the expected calibration error; `agreement`, how often the
    most likely token is the teacher's; `kl`, KL(teacher ‖ model).
    """

    how: IntervalMethod
    models: dict[str, dict[str, Figure | None]]
    differences: dict[str, dict[str, Figure]]

    def of_tokens(self, name: str) -> dict[str, Figure] | None:
        """The difference of the model called `name` in what needs no teacher, None without one."""
        found = self.differences.get(name)
        return None if found is None else {k: v for k, v in found.items() if k != "kl"}


def masked_figures(
    scores: Mapping[str, TokenScores],
    *,
    seed: int,
    teacher: str | None = "teacher",
    first: str = "control",
) -> MaskedFigures:
    """The figures of models by their scores on the same hidden tokens, the `teacher`'s first where
    there is one; `first`, which need not be there, is what is subtracted in differences.

    Documents without a hidden token are left out: they say nothing.
    """
    sums = np.hstack([_sums(each) for each in scores.values()])
    sample = Sample(sums[sums[:, _TOKENS] > 0], over="documents", seed=seed)
    starts = {name: i * _WIDTH for i, name in enumerate(scores)}
    figures = {name: _figures(sample, start) for name, start in starts.items()}
    for name in scores if teacher is None else [teacher]:
        figures[name] |= {"agreement": None, "kl": None}
    columns = _COMPARED | ({} if teacher is None else {"kl": _KL})
    differences = {
        name: _difference(sample, columns, start, starts[first])
        for name, start in starts.items()
        if first in starts and name not in (teacher, first)
    }
    return MaskedFigures(sample.how, figures, differences)


def _sums(scores: TokenScores) -> np.ndarray:
    """(N, 6 + BINS) for N documents."""
    _, confidence, hits = np.moveaxis(scores.calibration, 2, 0)  # each (N, BINS)
    columns = [
        scores.tokens, scores.nats, hits.sum(axis=1), scores.in_top, scores.agreed,
        scores.divergence,
    ]  # fmt: skip
    return np.column_stack([*columns, hits - confidence])


def _figures(sample: Sample, start: int) -> dict[str, Figure | None]:
    bins = slice(start + _FIXED, start + _WIDTH)
    return {
        "loss": sample.figure(_mean(start, _NATS), least=0.0),
        "accuracy": sample.share(_mean(start, _HITS)),
        "top5_accuracy": sample.share(_mean(start, _IN_TOP)),
        "ece": sample.distance(bins, start + _TOKENS),
        "agreement": sample.share(_mean(start, _AGREED)),
        "kl": sample.figure(_mean(start, _KL), least=0.0),
    }


def _difference(
    sample: Sample, columns: Mapping[str, int], model: int, first: int
) -> dict[str, Figure]:
    return {
        name: sample.figure(minus(_mean(model, column), _mean(first, column)))
        for name, column in columns.items()
    }


def _mean(start: int, column: int) -> Statistic:
    return lambda sums: sums[..., start + column] / sums[..., start + _TOKENS]
