"""What models wrote beside what was to be written, as figures with intervals over rows."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from entrenar_common.errors import UnsupportedError
from entrenar_distill.generation import GenerationRequest, Row, Written
from entrenar_distill.intervals import Figure, IntervalMethod, Sample

__all__ = ["Comparison", "GenerationDifference", "GenerationEvaluation", "GenerationFigures"]

SHOWN = 3
"""Rows whose texts are kept in the report."""

Statistic = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class GenerationFigures:
    """One model's texts beside the references: BLEU and chrF are 0 to 100, `exact_match` is a
    share."""

    model: str
    bleu: Figure
    chrf: Figure
    exact_match: Figure
    new_tokens: int
    seconds: float
    tokens_per_second: float
    first_texts: tuple[str, ...]


@dataclass(frozen=True)
class GenerationDifference:
    """`model` minus `first` on the same rows, paired."""

    model: str
    first: str
    bleu: Figure
    chrf: Figure
    exact_match: Figure


@dataclass(frozen=True)
class GenerationEvaluation:
    """What was generated, how it was compared, and the figures; `signatures` are sacrebleu's."""

    request: GenerationRequest
    rows: int
    intervals: IntervalMethod
    signatures: dict[str, str]
    first_references: tuple[str, ...]
    models: tuple[GenerationFigures, ...]
    differences: tuple[GenerationDifference, ...]


class Comparison:
    """Texts beside the references of `rows`: BLEU, chrF and exact match.

    The first two are functions of counts of n-grams that are added up over rows; sacrebleu counts,
    and makes scores of the sums. Spaces around a text are no part of it. Raises UnsupportedError
    without sacrebleu.
    Sources: Papineni et al. 2002, ACL, P02-1040; Popović 2015, WMT, W15-3049; Post 2018,
    arXiv:1804.08771.
    """

    def __init__(self, rows: Sequence[Row], request: GenerationRequest) -> None:
        try:
            from sacrebleu.metrics.bleu import BLEU
            from sacrebleu.metrics.chrf import CHRF
        except ImportError as error:
            raise UnsupportedError(
                "BLEU and chrF need sacrebleu", hint="pip install sacrebleu"
            ) from error
        self.request = request
        self.references = [row.reference.strip() for row in rows]
        self._metrics: tuple[Any, Any] = (BLEU(), CHRF())
        self._widths = [0, 0, 2]

    def evaluate(
        self, written: Sequence[Written], *, first: int, seed: int
    ) -> GenerationEvaluation:
        """The figures of each model's texts, and what those after the `first` differ from it by."""
        columns = [self._sums(each.texts) for each in written]
        sample = Sample(np.hstack(columns), over="rows", seed=seed)
        bleu, chrf = (str(metric.get_signature()) for metric in self._metrics)
        return GenerationEvaluation(
            request=self.request,
            rows=len(self.references),
            intervals=sample.how,
            signatures={"bleu": bleu, "chrf": chrf},
            first_references=tuple(self.references[:SHOWN]),
            models=tuple(self._figures(sample, i, each) for i, each in enumerate(written)),
            differences=tuple(
                self._difference(sample, written, i, first) for i in range(first + 1, len(written))
            ),
        )

    def _figures(self, sample: Sample, model: int, written: Written) -> GenerationFigures:
        return GenerationFigures(
            model=written.model,
            bleu=sample.figure(self._score(0, model), least=0.0, most=100.0),
            chrf=sample.figure(self._score(1, model), least=0.0, most=100.0),
            exact_match=sample.share(self._exact(model)),
            new_tokens=written.new_tokens,
            seconds=written.seconds,
            tokens_per_second=written.new_tokens / written.seconds,
            first_texts=tuple(written.texts[:SHOWN]),
        )

    def _difference(
        self, sample: Sample, written: Sequence[Written], model: int, first: int
    ) -> GenerationDifference:
        def minus_first(make: Callable[[int], Statistic]) -> Figure:
            mine, other = make(model), make(first)
            return sample.figure(lambda sums: mine(sums) - other(sums))

        return GenerationDifference(
            model=written[model].model,
            first=written[first].model,
            bleu=minus_first(lambda m: self._score(0, m)),
            chrf=minus_first(lambda m: self._score(1, m)),
            exact_match=minus_first(self._exact),
        )

    def _sums(self, texts: list[str]) -> np.ndarray:
        """What is added up over rows, (rows, K): counts of both metrics, equal texts, rows."""
        # private names: what sacrebleu's own resampling starts from has no public one
        parts = [
            np.array(metric._extract_corpus_statistics(texts, [self.references]), np.float64)
            for metric in self._metrics
        ]
        same = [text == wanted for text, wanted in zip(texts, self.references, strict=True)]
        parts.append(np.column_stack([same, np.ones(len(texts))]).astype(np.float64))
        self._widths = [part.shape[1] for part in parts]
        return np.hstack(parts)

    def _score(self, metric: int, model: int) -> Statistic:
        place, scorer = self._place(model, metric), self._metrics[metric]

        def score(counts: np.ndarray) -> float:
            return scorer._compute_score_from_stats(np.rint(counts).astype(int).tolist()).score

        return lambda sums: np.apply_along_axis(score, -1, sums[..., place])

    def _exact(self, model: int) -> Statistic:
        start = self._place(model, 2).start
        return lambda sums: sums[..., start] / sums[..., start + 1]

    def _place(self, model: int, part: int) -> slice:
        start = model * sum(self._widths) + sum(self._widths[:part])
        return slice(start, start + self._widths[part])
