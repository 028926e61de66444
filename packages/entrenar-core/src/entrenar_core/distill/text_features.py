"""One pass of a student over whole texts, with the losses of features that it is asked for."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from entrenar_common.errors import ConfigError
from entrenar_core.autograd import Parameter, Tensor, no_grad
from entrenar_core.data.text_batches import TextBatch
from entrenar_core.distill.features.counts import Counts
from entrenar_core.distill.features.term import FeatureTerm
from entrenar_core.distill.text_teacher import LiveTextTeacher, TextTeacher, outputs, type_ids
from entrenar_core.models.features import Wanted
from entrenar_core.nn import no_dropout


class TextReading:
    """What student and teacher say about the texts of a batch, and the sum of the losses of `terms`
    from the same passes. The positions that count are those that are no padding.

    Raises ConfigError for terms beside a teacher that is not read live: its layers are not known.
    """

    def __init__(
        self, student: Any, teacher: TextTeacher, terms: Sequence[FeatureTerm] = ()
    ) -> None:
        if terms and not isinstance(teacher, LiveTextTeacher):
            raise ConfigError(
                f"{terms[0].name} compares layers of a teacher of which only the output is kept",
                hint="give a LiveTextTeacher",
            )
        self.student, self.teacher, self.terms = student, teacher, tuple(terms)
        self._step = 0
        self._counts: Counts | None = None
        self._means: dict[str, float] = {}

    def parameters(self) -> dict[str, Parameter]:
        """The learned projections of the terms."""
        return {name: p for term in self.terms for name, p in term.parameters().items()}

    def begin(self, step: int, batches: Sequence[TextBatch]) -> None:
        """Called before the micro-batches `batches` of optimizer step `step`, counted from 0."""
        self._step, self._counts = step, Counts(tuple(batch.mask for batch in batches))

    def read(self, batch: TextBatch) -> tuple[Tensor, np.ndarray, Tensor | None]:
        """The student's outputs (B, D) and the teacher's, and the loss of the terms, None where
        none is active."""
        if not any(term.active(self._step) for term in self.terms):
            return outputs(self.student, batch), self.teacher.expected(batch), None
        assert isinstance(self.teacher, LiveTextTeacher) and self._counts is not None
        student, teacher = self.student, self.teacher.model
        last = [model.config.num_hidden_layers for model in (student, teacher)]
        ours, theirs = (Wanted(hidden_states=frozenset([layer])) for layer in last)
        for term in self.terms:
            from_student, from_teacher = term.wanted(self._step)
            ours, theirs = ours | from_student, theirs | from_teacher
        ids, mask, types = batch.ids, batch.mask, batch.types
        with no_grad(), no_dropout():
            told = teacher.select_features(ids, theirs, mask, *type_ids(teacher, types))
            expected = teacher.from_hidden(told.hidden_states[last[1]], ids, mask)
        seen = student.select_features(ids, ours, mask, *type_ids(student, types))
        found = student.from_hidden(seen.hidden_states[last[0]], ids, mask)
        loss: Tensor | None = None
        for term in self.terms:
            value = term.value(seen, told, mask, step=self._step, counts=self._counts)
            if value is not None:
                loss = value.loss if loss is None else loss + value.loss
                self._means[term.name] = self._means.get(term.name, 0.0) + value.mean
        return found, expected.data, loss

    def parts(self) -> dict[str, float]:
        """The mean over the active pairs of each term that was active, without weights, by name."""
        means, self._means = self._means, {}
        return means
