"""One side of the training-step benchmark where a student learns from a teacher.

Commands and answers are those of step_worker.py; the teacher's weights lie in a folder below the
student's.
"""

from pathlib import Path
from typing import Any

from step_worker import SIDES, TRANSFORMERS, Batch, Entrenar, Shape, Torch, main

TEMPERATURE, ALPHA = 2.0, 0.5
TEACHER = "teacher"


class EntrenarStudent(Entrenar):
    """Steps as `entrenar-distill` takes them."""

    def __init__(self, shape: Shape, weights: str, precision: str):
        super().__init__(shape, weights, precision)
        from entrenar_core import models
        from entrenar_core.distill import Distillation, Divergence, LiveTeacher

        teacher = models.load(Path(weights, TEACHER))
        teacher.freeze()
        self.objective = Distillation(
            self.model,
            LiveTeacher(teacher, shared=shape.vocabulary),
            divergence=Divergence(temperature=TEMPERATURE),
            alpha=ALPHA,
        )

    def _loss(self, batch: Batch) -> Any:
        from entrenar_core.data.batches import Batch as Rows

        rows = Rows(batch.ids, batch.targets, batch.ids[:, 0])
        return self.objective.loss(rows, rows.targets)


class TorchStudent(Torch):
    """A loop as it is usually written: both models' logits whole, and the loss from them."""

    def __init__(self, shape: Shape, weights: str, precision: str):
        import transformers

        super().__init__(shape, weights, precision)
        assert shape.teacher is not None
        config, model = TRANSFORMERS[shape.teacher.architecture]
        self.teacher = getattr(transformers, model)(
            getattr(transformers, config)(**shape.teacher.config(), use_cache=False)
        )
        if Path(weights, TEACHER).is_dir():
            self.teacher = type(self.teacher).from_pretrained(Path(weights, TEACHER))
        self.teacher.requires_grad_(False).eval()
        self.teach: Any = self.teacher

    def save(self, folder: str) -> None:
        super().save(folder)
        self.teacher.save_pretrained(Path(folder, TEACHER))

    def _loss(self, batch: Batch) -> Any:
        import torch
        from torch.nn import functional

        ids = torch.from_numpy(batch.ids)
        with torch.no_grad():
            expected = self.teach(input_ids=ids).logits[:, :-1]
        found = self.forward(input_ids=ids).logits[:, :-1]
        apart = functional.kl_div(
            functional.log_softmax(found / TEMPERATURE, dim=-1),
            functional.log_softmax(expected / TEMPERATURE, dim=-1),
            log_target=True, reduction="none",
        ).sum(-1).mean()  # fmt: skip
        hard = functional.cross_entropy(found.flatten(0, 1), ids[:, 1:].flatten())
        return ALPHA * TEMPERATURE**2 * apart + (1 - ALPHA) * hard


class CompiledStudent(TorchStudent):
    """The same with both models under `torch.compile`."""

    def __init__(self, shape: Shape, weights: str, precision: str):
        import torch

        super().__init__(shape, weights, precision)
        self.forward, self.teach = torch.compile(self.model), torch.compile(self.teacher)


class TrlStudent(TorchStudent):
    """Steps of TRL's GKDTrainer on given text (lmbda 0): forward KL (beta 0), without T² and
    without cross-entropy, which it has not."""

    def __init__(self, shape: Shape, weights: str, precision: str):
        super().__init__(shape, weights, precision)
        from trl.experimental.gkd import GKDTrainer

        class Trainer(GKDTrainer):
            """With models alone: no dataset, no tokenizer and no files."""

            def __init__(self, student: Any, teacher: Any):
                self.model, self.teacher_model = student, teacher
                self.beta, self.temperature = 0.0, TEMPERATURE
                self.use_liger_gkd_loss = False

        self.trainer = Trainer(self.model, self.teacher)

    def _loss(self, batch: Batch) -> Any:
        import torch

        ids = torch.from_numpy(batch.ids)
        given = {
            "input_ids": ids,
            "attention_mask": torch.ones_like(ids),
            "labels": ids,
            "prompts": ids[:, :1],
        }
        return self.trainer.compute_loss(self.model, given)


if __name__ == "__main__":
    main(
        {
            **SIDES,
            "eager": TorchStudent,
            "compiled": CompiledStudent,
            "trl": TrlStudent,
            "entrenar": EntrenarStudent,
        }
    )
