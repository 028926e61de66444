"""The objective that adds losses of features to a distillation of logits."""

from collections.abc import Sequence

import numpy as np

from entrenar_common.errors import ConfigError
from entrenar_core.autograd import Parameter, Tensor, no_grad
from entrenar_core.data.batches import IGNORED, Batch
from entrenar_core.distill.distiller import Distillation
from entrenar_core.distill.features.counts import Counts
from entrenar_core.distill.features.term import FeatureTerm
from entrenar_core.distill.teacher import LiveTeacher
from entrenar_core.models.features import Wanted
from entrenar_core.nn import no_dropout


class FeatureDistillation:
    """The loss of `logits` plus those of `terms`, from one pass of each model: the student and
    `teacher`, whom the logits are learned from too.

    The positions that count for the terms are those of the batch's mask, and without one those with
    a label. Where the documents of a row are to be kept apart, each of them is a sequence to the
    losses of features. Of the layers only those are kept that a term needs in this step.
    """

    def __init__(self, logits: Distillation, teacher: LiveTeacher, terms: Sequence[FeatureTerm]):
        self.logits, self.teacher, self.terms = logits, teacher, tuple(terms)
        self._step = 0
        self._counts: Counts | None = None
        self._means: dict[str, float] = {}

    def parameters(self) -> dict[str, Parameter]:
        """The learned projections of the terms."""
        return {name: p for term in self.terms for name, p in term.parameters().items()}

    def begin(self, step: int, batches: Sequence[Batch]) -> None:
        """Called before the micro-batches `batches` of optimizer step `step`, counted from 0."""
        self.logits.begin(step, batches)
        masks = tuple(map(_counted, batches))
        self._step, self._counts = step, Counts(masks, tuple(batch.segments for batch in batches))

    def loss(self, batch: Batch, normalizer: int) -> Tensor:
        """Raises ConfigError where no step was begun: its normalisers are not known."""
        if self._counts is None:
            raise ConfigError(
                f"a loss of features for {batch.targets} tokens of an unknown step",
                hint="call begin(step, batches) first, with all micro-batches of the step",
            )
        student, teacher = self.logits.student, self.teacher.model
        last = student.config.num_hidden_layers, teacher.config.num_hidden_layers
        ours, theirs = (Wanted(hidden_states=frozenset([layer])) for layer in last)
        for term in self.terms:
            from_student, from_teacher = term.wanted(self._step)
            ours, theirs = ours | from_student, theirs | from_teacher
        with no_grad(), no_dropout():
            expected = self.teacher.reading.select(teacher, batch, theirs)
        found = self.logits.reading.select(student, batch, ours)
        told = self.teacher.expected_of(expected.hidden_states[last[1]], batch)
        loss = self.logits.loss_of(found.hidden_states[last[0]], told, batch, normalizer)
        mask = _counted(batch)
        for term in self.terms:
            value = term.value(
                found, expected, mask, step=self._step, counts=self._counts,
                documents=batch.segments,
            )  # fmt: skip
            if value is not None:
                loss = loss + value.loss
                self._means[term.name] = self._means.get(term.name, 0.0) + value.mean
        return loss

    def parts(self) -> dict[str, float]:
        """Those of the logits, and the mean over the active pairs of each term that was active,
        without weights, by the term's name."""
        means, self._means = self._means, {}
        return {**self.logits.parts(), **means}


def _counted(batch: Batch) -> np.ndarray:
    """The positions (B, T) whose features are compared."""
    return batch.labels != IGNORED if batch.mask is None else batch.mask
