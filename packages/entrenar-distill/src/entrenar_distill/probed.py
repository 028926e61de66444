"""Some steps of a distillation in a process of its own, and then the held-out measurement: the
process that `probe` starts.

Reads one JSON object from standard input, what to do, and writes one to standard output: the peak
of resident memory in bytes, as the kernel counts it for this program, mapped pages included, and
the seconds of each step, by the name of what was trained.
"""

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from entrenar_common.errors import EntrenarError, NumericsError
from entrenar_core import lora, models
from entrenar_core.autograd.precision import multiplied_in
from entrenar_core.data.batches import Batch
from entrenar_core.data.documents import TokenizedDocuments
from entrenar_core.distill import Distillation, FeatureDistillation, LiveTeacher
from entrenar_core.optim import AdamW
from entrenar_core.train.evaluate import score
from entrenar_core.train.measured import peak
from entrenar_core.train.objective import LanguageModelling, Objective
from entrenar_core.train.process import keep_freed_memory
from entrenar_core.train.warm_up import load_kernels
from entrenar_distill import features
from entrenar_distill.config import DistillConfig
from entrenar_distill.students import bare_student, make_student

STEPS = 3
"""The first loads what is loaded once; the second has the moments in memory."""


class Probe:
    """What a run does with memory, on ids that are drawn."""

    def __init__(self, asked: dict[str, Any]):
        self.config = DistillConfig.model_validate(asked["config"])
        self.student = asked["student"] and Path(asked["student"])
        self.teacher = models.load(asked["teacher"], **asked["held"])
        self.teacher.freeze()
        self.random = np.random.default_rng(0)
        self.ids = self.teacher.config.vocab_size
        self.seconds: dict[str, list[float]] = {}

    def run(self) -> None:
        """Train the student, then the control if there is one, and measure all of them."""
        trained: dict[str, Any] = {"teacher": self.teacher}
        objectives = {}  # a run has them to the end
        for phase in ("student", "control") if self.config.control else ("student",):
            trained[phase] = make_student(self.config, self.teacher, self.student)
            self.ids = min(self.ids, trained[phase].config.vocab_size)
            objectives[phase] = self._trained(phase, trained[phase])
        with tempfile.TemporaryDirectory(prefix="entrenar-") as folder:
            trained["student"] = self._read_again(trained["student"], Path(folder))
        training = self.config.training
        documents = self._documents(2 * training.batch_size)
        score(
            trained, documents, seq_len=self.config.dataset.max_length,
            batch_size=training.batch_size, eos_id=0,
        )  # fmt: skip

    def _objective(self, phase: str, model: Any) -> Objective:
        if phase == "control":
            return LanguageModelling(model)
        settings = self.config.distillation
        shared = min(model.config.vocab_size, self.teacher.config.vocab_size)
        live = LiveTeacher(self.teacher, shared=shared)
        logits = Distillation(model, live, divergence=settings.divergence(), alpha=settings.alpha)
        inside = features.terms(settings, model, self.teacher, seed=self.config.training.seed)
        return FeatureDistillation(logits, live, inside) if inside else logits

    def _trained(self, phase: str, model: Any) -> Objective:
        """Some steps as `TrainingLoop` takes them; what they were taken for."""
        with multiplied_in(self.config.training.products):
            return self._steps(phase, model)

    def _steps(self, phase: str, model: Any) -> Objective:
        objective, training = self._objective(phase, model), self.config.training
        keep_freed_memory()
        parameters = {n: p for n, p in model.named_parameters().items() if p.requires_grad}
        optimizer = AdamW({**parameters, **objective.parameters()})
        load_kernels(objective, self._batch(1), optimizer)
        for step in range(STEPS):
            started = time.perf_counter()
            batches = [
                self._batch(training.batch_size) for _ in range(training.gradient_accumulation)
            ]
            tokens = sum(batch.targets for batch in batches)
            objective.begin(step, batches)
            optimizer.zero_grad()
            for batch in batches:
                loss = objective.loss(batch, tokens)
                loss.backward()
                if not np.isfinite(loss.item()):
                    raise NumericsError("the loss is not finite", hint="probe other models")
            optimizer.step(1e-5, max_norm=training.max_grad_norm)
            self.seconds.setdefault(phase, []).append(time.perf_counter() - started)
        return objective

    def _batch(self, rows: int) -> Batch:
        shape = (rows, self.config.dataset.max_length)
        ids = self.random.integers(0, self.ids, shape)
        labels = np.concatenate([ids[:, 1:], ids[:, :1]], axis=1)
        return Batch(ids, labels, np.arange(rows))

    def _documents(self, count: int) -> TokenizedDocuments:
        length = self.config.dataset.max_length
        ids = [self.random.integers(0, self.ids, length, dtype=np.int32) for _ in range(count)]
        names = [str(number) for number in range(count)]
        return TokenizedDocuments.from_arrays(names, ids, [length] * count)

    def _read_again(self, student: Any, folder: Path) -> Any:
        """The student as a run reads it from what it has written."""
        section = self.config.student.lora
        if section is not None and not section.fuse:
            (adapter,) = lora.adapters_of(student).values()
            adapter.save(folder)
            again = bare_student(self.config, self.teacher, self.student)
            lora.load_adapter(again, folder)
            return again
        if section is not None:
            lora.fuse(student)
        models.save(student, folder)
        return models.load(folder)


def answer(asked: dict[str, Any]) -> dict[str, Any]:
    """Do what is asked; the peak and the seconds, or an error as its code, message and hint."""
    try:
        probe = Probe(asked)
        probe.run()
    except EntrenarError as error:
        return {"error": error.code, "message": error.message, "hint": error.hint}
    return {"peak": peak(), "seconds": probe.seconds}


if __name__ == "__main__":
    json.dump(answer(json.load(sys.stdin)), sys.stdout)
