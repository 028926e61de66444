"""What makes no sense for a task, which is known from the file or from the data."""

from dataclasses import dataclass

from entrenar_common.text import nearest
from entrenar_core.train.declarative.tasks import CAUSAL_LM, FIGURES, REGRESSION, TaskName
from entrenar_core.train.declarative.training_section import TrainingSection

__all__ = ["Unfit", "unfit"]


@dataclass(frozen=True)
class Unfit:
    """A key that does not go with the task, by its path, and why."""

    path: tuple[str, ...]
    text: str

    def __str__(self) -> str:
        return f"{'.'.join(self.path)} {self.text}"


def unfit(task: TaskName, training: TrainingSection, *, packing: bool) -> Unfit | None:
    """The first key that does not go with `task`; None where all do."""
    if training.label_smoothing and task == REGRESSION:
        return Unfit(("training", "label_smoothing"), "is for classes and tokens, not for numbers")
    if not packing and task != CAUSAL_LM:
        return Unfit(("data", "packing"), f"goes with {CAUSAL_LM}: whole texts are not packed")
    if training.metric not in FIGURES[task]:
        known = FIGURES[task]
        near = nearest(training.metric, known)
        guess = f"; did you mean {near}?" if near else ""
        text = f"{training.metric!r} is no figure of {task}, which has {', '.join(known)}{guess}"
        return Unfit(("training", "metric"), text)
    return None
