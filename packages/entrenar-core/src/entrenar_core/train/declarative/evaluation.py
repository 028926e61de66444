"""What is learned and what is measured, for each task."""

from collections.abc import Callable
from typing import Any

import numpy as np

from entrenar_common.progress import Progress
from entrenar_core.data.documents import TokenizedDocuments
from entrenar_core.data.texts import Texts
from entrenar_core.distill import LabelClassification
from entrenar_core.distill.text_teacher import said_about
from entrenar_core.train.declarative.inputs import Inputs
from entrenar_core.train.declarative.tasks import CAUSAL_LM, REGRESSION
from entrenar_core.train.evaluate import score
from entrenar_core.train.figures import of_classes, of_numbers
from entrenar_core.train.objective import LanguageModelling, Objective
from entrenar_core.train.regression import NumberRegression

__all__ = ["measure", "objective"]


def objective(inputs: Inputs, model: Any) -> Objective:
    """What `model` is trained towards."""
    smoothing = inputs.spec.training.label_smoothing
    if inputs.decision.task == CAUSAL_LM:
        return LanguageModelling(model, label_smoothing=smoothing)
    if inputs.decision.task == REGRESSION:
        return NumberRegression(model)
    return LabelClassification(model, label_smoothing=smoothing)


def measure(
    inputs: Inputs,
    model: Any,
    *,
    progress: Progress | None = None,
    between: Callable[[], None] = lambda: None,
) -> dict[str, float]:
    """The figures of `model` on what is held out, by the names in `FIGURES`. `between` is called
    meanwhile: it may raise to end the work."""
    if isinstance(inputs.held_out, TokenizedDocuments):
        return _of_documents(inputs, inputs.held_out, model, progress, between)
    between()
    return _of_texts(inputs, inputs.held_out, model)


def _of_documents(
    inputs: Inputs, documents: TokenizedDocuments, model: Any, progress: Progress | None,
    between: Callable[[], None],
) -> dict[str, float]:  # fmt: skip
    found = score(
        {"model": model}, documents, seq_len=inputs.spec.data.max_length,
        batch_size=inputs.spec.data.batch_size, eos_id=inputs.tokenizer.eos_id or 0,
        progress=progress, between=between,
    )["model"]  # fmt: skip
    return {"held_out_loss": found.loss, "perplexity": found.perplexity}


def _of_texts(inputs: Inputs, texts: Texts, model: Any) -> dict[str, float]:
    said = said_about(model, texts, inputs.fill)
    assert texts.labels is not None  # these tasks read them
    if inputs.decision.task == REGRESSION:
        return of_numbers(said[:, 0], np.asarray(texts.labels, np.float64))
    return of_classes(said, texts.labels)
