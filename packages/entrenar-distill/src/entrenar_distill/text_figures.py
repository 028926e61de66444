"""What models made of text, as figures with intervals over documents."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from entrenar_core.train.evaluate import BINS, Scores, perplexity
from entrenar_distill.calibration import CalibrationBin, bins_of
from entrenar_distill.intervals import Figure, IntervalMethod, Sample

__all__ = ["ModelText", "TextDifference", "TextFigures", "text_figures"]

_TOKENS, _BYTES, _NATS, _AGREED, _KL, _HITS, _IN_TOP, _BRIER = range(8)
_WIDTH = 8 + BINS
"""Sums of one model: those above, and Σ (hit − confidence) of each bin."""


@dataclass(frozen=True)
class TextFigures:
    """One model on the documents; `kl` and `agreement` are with the teacher, None without one.

    `loss` in nats per token, `perplexity` exp(loss), `bits_per_byte` independent of the tokenizer;
    `accuracy` and `top5_accuracy` how often the next token is the most likely one, or one of five;
    `ece` and `brier` say whether the probability of the most likely token is to be believed.
    """

    model: str
    parameters: int
    tokens: int
    loss: Figure
    perplexity: Figure
    bits_per_byte: Figure
    accuracy: Figure
    top5_accuracy: Figure
    ece: Figure
    brier: Figure
    kl: Figure | None
    agreement: Figure | None
    calibration: tuple[CalibrationBin, ...]
    seconds: float
    tokens_per_second: float


@dataclass(frozen=True)
class TextDifference:
    """`model` minus `first` on the same documents, paired; None where the tokens are not the same
    ones, or without a teacher."""

    model: str
    first: str
    bits_per_byte: Figure
    loss: Figure | None
    accuracy: Figure | None
    kl: Figure | None


@dataclass(frozen=True)
class ModelText:
    """What is known of one model: its scores on the documents that all models were given."""

    name: str
    parameters: int
    reading: int
    """Equal for models that read the documents as the same tokens."""
    scores: Scores


def text_figures(
    measured: Sequence[ModelText], *, teacher: bool, seed: int
) -> tuple[IntervalMethod, list[TextFigures], list[TextDifference]]:
    """The figures of each model, and the differences to the first; with a `teacher`, `measured`
    begins with it, and the first is the one after it."""
    sums = np.hstack([_sums(each.scores) for each in measured])
    sample = Sample(sums, over="documents", seed=seed)
    figures = [_figures(sample, i, each, teacher and i > 0) for i, each in enumerate(measured)]
    first = int(teacher)
    others = range(first + 1, len(measured))
    differences = [_difference(sample, measured, i, first, teacher) for i in others]
    return sample.how, figures, differences


def _sums(scores: Scores) -> np.ndarray:
    tokens, confidence, hits = np.moveaxis(scores.calibration, 2, 0)  # each (N, BINS)
    columns = [
        tokens.sum(axis=1), scores.bytes, scores.nats, scores.agreed, scores.divergence,
        hits.sum(axis=1), scores.in_top, scores.brier,
    ]  # fmt: skip
    return np.column_stack([*columns, hits - confidence])


def _ratio(model: int, top: int, bottom: int = _TOKENS) -> Callable[[np.ndarray], np.ndarray]:
    start = model * _WIDTH
    return lambda sums: sums[..., start + top] / sums[..., start + bottom]


def _bits_per_byte(model: int) -> Callable[[np.ndarray], np.ndarray]:
    nats_per_byte = _ratio(model, _NATS, _BYTES)
    return lambda sums: nats_per_byte(sums) / math.log(2)


def _figures(sample: Sample, i: int, measured: ModelText, beside_teacher: bool) -> TextFigures:
    scores, end = measured.scores, (i + 1) * _WIDTH
    loss = sample.figure(_ratio(i, _NATS), least=0.0)
    tokens = int(scores.tokens.sum())

    return TextFigures(
        model=measured.name,
        parameters=measured.parameters,
        tokens=tokens,
        loss=loss,
        perplexity=Figure(perplexity(loss.value), perplexity(loss.low), perplexity(loss.high)),
        bits_per_byte=sample.figure(_bits_per_byte(i), least=0.0),
        accuracy=sample.share(_ratio(i, _HITS)),
        top5_accuracy=sample.share(_ratio(i, _IN_TOP)),
        ece=sample.distance(slice(end - BINS, end), end - _WIDTH + _TOKENS),
        brier=sample.figure(_ratio(i, _BRIER), least=0.0, most=1.0),
        kl=sample.figure(_ratio(i, _KL), least=0.0) if beside_teacher else None,
        agreement=sample.share(_ratio(i, _AGREED)) if beside_teacher else None,
        calibration=bins_of(scores.calibration.sum(axis=0)),
        seconds=scores.seconds,
        tokens_per_second=tokens / scores.seconds,
    )


def _difference(
    sample: Sample, measured: Sequence[ModelText], i: int, first: int, teacher: bool
) -> TextDifference:
    def between(make: Callable[[int], Callable[[np.ndarray], np.ndarray]]) -> Figure:
        mine, other = make(i), make(first)
        return sample.figure(lambda sums: mine(sums) - other(sums))

    same = measured[i].reading == measured[first].reading
    return TextDifference(
        model=measured[i].name,
        first=measured[first].name,
        bits_per_byte=between(_bits_per_byte),
        loss=between(lambda m: _ratio(m, _NATS)) if same else None,
        accuracy=between(lambda m: _ratio(m, _HITS)) if same else None,
        kl=between(lambda m: _ratio(m, _KL)) if teacher else None,
    )
