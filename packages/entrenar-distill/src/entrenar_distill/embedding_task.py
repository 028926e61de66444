"""The task of sentence embeddings: a vector for each text, as the teacher has it."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from entrenar_common.errors import UnsupportedError
from entrenar_common.progress import Progress
from entrenar_core.autograd import Tensor, no_grad
from entrenar_core.distill import EmbeddingDistillation, new_projection
from entrenar_core.distill.text_teacher import said_about
from entrenar_distill.config import DistillConfig
from entrenar_distill.embedding_figures import embedding_figures
from entrenar_distill.loss import EmbeddingSection
from entrenar_distill.run_folder import RunFolder
from entrenar_distill.task import STUDENT
from entrenar_distill.text_inputs import TextInputs, read_text_inputs
from entrenar_distill.text_next_steps import embedding_commands
from entrenar_distill.text_task import Measured, TextTask, reading_of

__all__ = ["SentenceEmbedding"]

BEFORE = "before training"


class SentenceEmbedding(TextTask):
    """Embeddings near the teacher's: see `Task`."""

    head = "embedding"

    def read_inputs(self, config: DistillConfig, *, progress: Progress) -> TextInputs:
        trained = config.training.quantization
        if trained is not None and trained.recipe is not None:
            raise UnsupportedError(
                f"sentence-embedding with training.quantization.recipe {trained.recipe}: only "
                "language models are trained on the numbers of a GGUF file",
                hint="quantize after the training: output.format gguf, output.quantize",
            )
        return read_text_inputs(config, self.head, numbering=_no_labels, progress=progress)

    def objective(self, inputs: TextInputs, phase: str, model: Any) -> EmbeddingDistillation:
        assert phase == STUDENT  # the configuration allows no control
        section, seed = _section(inputs), inputs.config.training.seed
        width, own = _width(inputs.teacher), _width(model)
        projection = None
        if width != own:
            projection = new_projection(width, own, seed=seed, dtype=model.dtype)
        return EmbeddingDistillation(
            reading_of(inputs, model),
            loss=section.loss,
            pairwise=section.pairwise,
            projection=projection,
        )

    def held_out_loss(self, inputs: TextInputs, model: Any, objective: Any) -> float:
        texts = inputs.held_out
        found = said_about(model, texts, inputs.fill)
        with no_grad():
            total = objective.distance(Tensor(found), inputs.told.of(np.arange(len(texts))))
        return total.item() / len(texts)

    def formula(self, inputs: TextInputs) -> str:
        section = _section(inputs)
        student = "student" if _same_width(inputs) else "W*student"
        found = f"1 - cos({student}, teacher)"
        if section.loss == "mse":
            found = f"|{student} - teacher|^2/{_width(inputs.teacher)}"
        if section.pairwise:
            found += f" + {section.pairwise:g}*|G_student - G_teacher|^2/n^2"
        return inputs.config.distillation.with_features(f"{found}, per text")

    def loss_settings(self, inputs: TextInputs) -> dict[str, float]:
        del inputs
        return {}

    def settings(self, inputs: TextInputs) -> dict[str, str]:
        pooling = inputs.pooling
        assert pooling is not None
        length = ", of length 1" if pooling.normalise else ""
        return {
            "embedding": f"{pooling.mode} over the tokens{length}",
            "longest text": f"{inputs.max_length} ids",
            "control": "none: without the teacher nothing is learned",
        }

    def besides(self, inputs: TextInputs) -> dict[str, Any]:
        return {BEFORE: inputs.new_student()}

    def measured(
        self, inputs: TextInputs, said: Mapping[str, np.ndarray], objectives: Mapping[str, Any]
    ) -> Measured:
        objective = objectives[STUDENT]
        with no_grad():
            projected = {
                name: objective.projected(Tensor(found)).numpy()
                for name, found in said.items()
                if name.startswith(STUDENT)
            }
        teacher = said["teacher"]
        if objective.projection is None:
            projected[BEFORE] = said[BEFORE]
        others = {name: found for name, found in said.items() if name != "teacher"}
        found = embedding_figures(teacher, others, projected, seed=inputs.config.training.seed)
        notes = []
        if objective.projection is not None:
            notes.append(
                "The student's embeddings have another width: the cosine is taken after the "
                "projection that was learned beside it, which is not in the student."
            )
        shown: dict[str, Any] = {"teacher": {"cosine": None, "spearman": None}, **found.models}
        verdict = _verdict(found.models, found.how.confidence)
        return Measured(shown, found.how, verdict, notes=tuple(notes))

    def next_commands(self, inputs: TextInputs, folder: RunFolder, whole: bool) -> tuple[str, ...]:
        return embedding_commands(folder, inputs) if whole else ()


def _no_labels(teacher: Any) -> None:
    del teacher


def _section(inputs: TextInputs) -> EmbeddingSection:
    return inputs.config.distillation.embedding or EmbeddingSection.model_validate({})


def _width(model: Any) -> int:
    return model.config.hidden_size


def _same_width(inputs: TextInputs) -> bool:
    return _width(inputs.teacher) == inputs.student_config.hidden_size


def _verdict(figures: Mapping[str, Mapping[str, Any]], confidence: float) -> str:
    student, before = figures[STUDENT], figures[BEFORE]
    cosine, rank = student["cosine"], student["spearman"]
    start = "" if before["cosine"] is None else f"; before training {before['cosine'].value:.4f}"
    return (
        f"The student's embeddings have a mean cosine of {cosine.value:.4f} to the teacher's "
        f"({confidence * 100:g} % interval {cosine.low:.4f} to {cosine.high:.4f}{start}), and the "
        f"similarities between texts a rank correlation of {rank.value:.4f}."
    )
