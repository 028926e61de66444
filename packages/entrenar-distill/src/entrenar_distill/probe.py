"""Trying a distillation for some steps: what it really takes, of memory and of time."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from entrenar_core.estimate.distilling import Distilling
from entrenar_core.estimate.find import find_weights
from entrenar_core.estimate.own_weights import FLOAT
from entrenar_core.estimate.setup import FLOATS
from entrenar_core.estimate.shape import ModelShape
from entrenar_core.train.measuring import answer_of, check_room, check_space, random_model
from entrenar_distill.planned import Planned


@dataclass(frozen=True)
class Probed:
    """What some steps and the measurement after them took: the peak in bytes, and the seconds of a
    step of the student, and of the control where there is one, once all is loaded."""

    peak_bytes: int
    student_seconds: float
    control_seconds: float | None


def probe(plan: Planned, predicted: int) -> Probed:
    """Take some steps of `plan` in a process of its own, on ids that are drawn. A model without
    weights on this machine gets random ones, in a temporary folder.

    Raises OutOfMemoryError where `predicted` bytes are more than there are, StorageError where
    there is no room for random weights, and what the steps raise.
    """
    check_room(predicted, "the distillation")
    with _weights(plan) as (teacher, student):
        return probe_of(plan, teacher, student)


def probe_of(plan: Planned, teacher: Path, student: Path | None) -> Probed:
    """`probe` with the models in these folders; no student's for one that is made."""
    request = {
        "task": "the distillation",
        "config": plan.config.model_dump(mode="json", exclude_unset=True),
        "teacher": str(teacher),
        "student": None if student is None else str(student),
        "held": held(plan.asked),
    }
    answer = answer_of("entrenar_distill.probed", request)
    seconds = {name: min(steps[1:]) for name, steps in answer["seconds"].items()}
    return Probed(answer["peak"], seconds["student"], seconds.get("control"))


def held(asked: Distilling) -> dict[str, str]:
    """What `models.load` is told for the teacher."""
    return {"dtype" if asked.teacher in FLOATS else "quantize": asked.teacher}


@contextmanager
def _weights(plan: Planned) -> Iterator[tuple[Path, Path | None]]:
    section = plan.config.student
    with ExitStack() as stack:
        teacher = stack.enter_context(_folder(plan.config.teachers[0].model_id, plan.teacher))
        student = None
        if section.model_id is not None:
            student = stack.enter_context(_folder(section.model_id, plan.student))
        yield teacher, student


@contextmanager
def _folder(spec: str, shape: ModelShape) -> Iterator[Path]:
    there = find_weights(spec)
    if there is not None:
        yield there
        return
    check_space(FLOAT * shape.parameters)
    with random_model(shape.raw) as folder:
        yield folder
