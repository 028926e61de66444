"""What masked language models are worth: hidden tokens, told by the text around them."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from entrenar_common.errors import ConfigError
from entrenar_common.progress import NullProgress, Progress
from entrenar_core.data.documents import TokenizedDocuments
from entrenar_core.data.masking import MaskTokens
from entrenar_core.data.sources import DatasetSpec
from entrenar_core.data.tokens import tokenize
from entrenar_core.environment import environment
from entrenar_core.models.computing import FLOAT32, computed_in
from entrenar_core.models.reading import MASKED
from entrenar_core.train.evaluate import TokenScores, perplexity
from entrenar_core.train.evaluate_masked import score_masked
from entrenar_distill.calibration import bins_of
from entrenar_distill.candidates import Candidate, candidates, check_finite, check_sizes
from entrenar_distill.intervals import Figure
from entrenar_distill.masked_figures import masked_figures
from entrenar_distill.naming import about
from entrenar_distill.task_evaluation import ModelDifference, ModelFigures, TaskEvaluation
from entrenar_distill.task_names import MASKED_LM
from entrenar_distill.texts import BATCH_TOKENS

__all__ = ["MASK_SHARE", "evaluate_masked"]

MASK_SHARE = 0.15
"""The share of the tokens that are hidden, unless another is asked for."""


def evaluate_masked(
    names: Sequence[str],
    *,
    data: DatasetSpec,
    teacher: str | None = None,
    seq_len: int = 512,
    batch_size: int | None = None,
    share: float = MASK_SHARE,
    seed: int = 0,
    compute: str = FLOAT32,
    progress: Progress | None = None,
) -> TaskEvaluation:
    """Measure the masked language models called `names`, folders or names on the hub, on the
    documents of `data`; with a `teacher`, how near they are to it too.

    Documents are cut into rows of `seq_len` ids, or what the model with the fewest positions has,
    and `share` of the tokens of a row is hidden: a function of `seed` and the documents, the same
    for all models, which therefore have one tokenizer. `batch_size` rows are computed at a time, in
    what `compute` names, as `models.computing` has it.

    Raises ConfigError (another tokenizer, no mask token, nothing to hide, a model without the
    head), NumericsError (a document for which a model gives no number), and what reading them
    raises.
    """
    started, progress = time.monotonic(), progress or NullProgress()
    check_sizes(seq_len, batch_size)
    every = candidates(names, teacher=teacher, head=MASKED_LM, task=MASKED_LM, compute=compute)
    _check_tokenizers(every)
    with about(every[0].name):
        tokens = MaskTokens.of(every[0].tokenizer)
    length = min(seq_len, *(MASKED.positions(each) for each in every))
    size = batch_size or max(1, BATCH_TOKENS // length)
    documents = tokenize(data, every[0].tokenizer, progress=progress)
    scores: dict[str, TokenScores] = {}
    counts: dict[str, int] = {}
    # beside a teacher all are in memory, so that its logits are computed once
    for group in [every] if teacher else [[each] for each in every]:
        loaded: dict[str, Any] = {each.name: each.load() for each in group}
        with computed_in(compute):
            scores |= score_masked(
                loaded, documents, seq_len=length, batch_size=size, tokens=tokens, seed=seed,
                share=share, progress=progress,
            )  # fmt: skip
        counts |= {name: model.parameter_count() for name, model in loaded.items()}
    _check_scores(scores, documents)
    figures = masked_figures(scores, seed=seed, teacher=teacher, first=names[0])
    hidden = int(scores[every[0].name].tokens.sum())
    notes = list(documents.warnings)
    if length < seq_len:
        notes.insert(0, f"rows of {length} ids, since a model has no more positions")
    return TaskEvaluation(
        task=MASKED_LM,
        data=data.paths,
        rows=len(documents),
        unit="document",
        settings={
            "hidden": f"{share:g} of the tokens, {hidden} in all, by the seed {seed}",
            "rows": f"{length} ids at most, {size} at a time",
        },
        teacher=teacher,
        seed=seed,
        compute=compute,
        intervals=figures.how,
        models=tuple(
            ModelFigures(
                model=name,
                parameters=counts[name],
                figures=_with_perplexity(figures.models[name]),
                rows_per_second=len(documents) / each.seconds,
                calibration=bins_of(each.calibration.sum(axis=0)),
            )
            for name, each in scores.items()
        ),
        differences=tuple(
            ModelDifference(name, names[0], each) for name, each in figures.differences.items()
        ),
        notes=tuple(notes),
        environment=environment(),
        seconds=time.monotonic() - started,
    )


def _check_tokenizers(every: Sequence[Candidate]) -> None:
    first = every[0]
    for each in every[1:]:
        if not each.tokenizer.same_as(first.tokenizer):
            raise ConfigError(
                f"{each.name} has another tokenizer than {first.name}: other tokens would be "
                "hidden from it",
                hint="measure models with different tokenizers by themselves; their figures are "
                "about different tokens, and cannot be compared",
            )


def _check_scores(scores: Mapping[str, TokenScores], documents: TokenizedDocuments) -> None:
    for name, each in scores.items():
        if not each.tokens.any():
            raise ConfigError(
                f"the {len(documents)} documents have no token to hide: nothing to measure",
                hint="give text of which the tokenizer knows the tokens",
            )
        check_finite(name, np.isfinite(each.nats), documents.names, "document")


def _with_perplexity(figures: Mapping[str, Figure | None]) -> dict[str, Figure | None]:
    loss = figures["loss"]
    assert loss is not None
    found = Figure(perplexity(loss.value), perplexity(loss.low), perplexity(loss.high))
    return {"loss": loss, "pseudo_perplexity": found, **figures}
