"""What models are worth for a task that is not to go on with text: a record.

How it looks is in `entrenar_distill.task_evaluation_view`.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

from entrenar_core.environment import Environment
from entrenar_distill.calibration import CalibrationBin
from entrenar_distill.intervals import Figure, IntervalMethod

__all__ = ["ModelDifference", "ModelFigures", "TaskEvaluation"]


@dataclass(frozen=True)
class ModelFigures:
    """One model: its `figures` by name, None where one means nothing for it.

    Of classes: `loss`, nats per text; `accuracy`; `macro_f1`; `ece`; `agreement` and `kl`, with the
    teacher; and those of `class_outcomes`. Of hidden tokens: `loss`, nats per hidden token;
    `pseudo_perplexity`, exp(loss); `accuracy`, `top5_accuracy`, `ece`, `agreement`, `kl`. Of
    embeddings: `cosine`, the mean of that to the teacher's; `similarities`, the rank correlation of
    the cosines between texts with the teacher's; `pearson` and `spearman`, the correlations of the
    cosines of pairs with their scores.

    `calibration` has the bins of `ece`; `rows_per_second` are texts or documents.
    """

    model: str
    parameters: int
    figures: dict[str, Figure | None]
    rows_per_second: float
    calibration: tuple[CalibrationBin, ...] = ()


@dataclass(frozen=True)
class ModelDifference:
    """`model` minus `first` on the same rows, paired, by the names of figures."""

    model: str
    first: str
    figures: dict[str, Figure]


@dataclass(frozen=True)
class TaskEvaluation:
    """Figures of a task. `models` begins with the `teacher`, where there is one; differences are to
    the first model that is not the teacher. `rows` are counted in `unit`s; `settings` are what else
    decides the figures, in words; `compute` names what the models computed in."""

    task: str
    data: tuple[str, ...]
    rows: int
    unit: str
    settings: dict[str, str]
    teacher: str | None
    seed: int
    compute: str
    intervals: IntervalMethod
    models: tuple[ModelFigures, ...]
    differences: tuple[ModelDifference, ...]
    notes: tuple[str, ...]
    environment: Environment
    seconds: float

    SCHEMA: ClassVar[str] = "entrenar.distill.evaluate-task/1"

    def __view__(self) -> list[Any]:
        from entrenar_distill import task_evaluation_view

        return task_evaluation_view.parts(self)
