"""What a run would do, in words: for `--dry-run`."""

from dataclasses import dataclass, field
from typing import Any

from entrenar_common.tables import Fields, Text
from entrenar_common.units import format_count
from entrenar_distill.quantized import GGUF
from entrenar_distill.report import NORMALISER
from entrenar_distill.task_names import CAUSAL_LM


@dataclass(frozen=True)
class Plan:
    """What a run would do, for `--dry-run`; `done` are the steps already in the output folder.

    `unit` is what one of the `training_documents` is; a step has `tokens_per_step` tokens or, where
    that is None, `texts_per_step` whole texts. `task_settings` says in words what else is done.
    """

    teacher: str
    teacher_parameters: int
    vocabulary: str | None
    student: str
    student_parameters: int
    training_documents: int
    training_tokens: int
    held_out_documents: int
    held_out_tokens: int
    tokens_per_step: int | None
    steps_per_epoch: int
    steps: int
    phases: tuple[str, ...]
    done: dict[str, int]
    output: str
    rows: str | None
    loss: str
    loss_settings: dict[str, float]
    quantization: str | None = None
    recipe: str | None = None
    features: str | None = None
    task: str = CAUSAL_LM
    unit: str = "document"
    texts_per_step: int | None = None
    normaliser: str = NORMALISER
    task_settings: dict[str, str] = field(default_factory=dict)

    def __view__(self) -> list[Any]:
        count = format_count
        size = f"{self.texts_per_step} texts"
        if self.tokens_per_step is not None:
            size = f"{count(self.tokens_per_step)} tokens"
        steps = f"{self.steps} of {size} each"
        done = [f"{phase} {step}" for phase, step in self.done.items()]
        stored = [("stored weights", self.quantization)] if self.quantization else []
        inside = [("inside the teacher", self.features)] if self.features else []
        settings = [f"{name} {value:g}" for name, value in self.loss_settings.items()]
        file = f", with {GGUF} in {self.recipe}" if self.recipe else ""
        return [
            Fields(
                "What would be done",
                [
                    ("teacher", f"{self.teacher}, {count(self.teacher_parameters)} parameters"),
                    ("student", f"{self.student}, {count(self.student_parameters)} parameters"),
                    *([("vocabulary", self.vocabulary)] if self.vocabulary else []),
                    *self.task_settings.items(),
                    ("training", self._counted(self.training_documents, self.training_tokens)),
                    ("held out", self._counted(self.held_out_documents, self.held_out_tokens)),
                    *([("sequences", self.rows)] if self.rows else []),
                    ("loss", self.loss),
                    *([("with", ", ".join(settings))] if settings else []),
                    ("normalised", self.normaliser),
                    ("steps", f"{steps}; an epoch has {self.steps_per_epoch}"),
                    *inside,
                    *stored,
                    ("phases", ", ".join(self.phases)),
                    ("done so far", ", ".join(done) or "nothing"),
                    ("output", f"{self.output}{file}"),
                ],
            ),
            Text("Everything was checked, and nothing was trained."),
        ]

    def _counted(self, number: int, tokens: int) -> str:
        plural = "" if number == 1 else "s"
        return f"{number} {self.unit}{plural}, {format_count(tokens)} tokens"
