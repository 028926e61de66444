"""A student that is a model with an adapter: written, read again, and described."""

from pathlib import Path
from typing import Any

from entrenar_core import lora
from entrenar_distill.config import DistillConfig
from entrenar_distill.inputs import Inputs
from entrenar_distill.report import AdaptedStudent
from entrenar_distill.run_folder import ADAPTER


def write(model: Any, folder: Path, config: DistillConfig) -> AdaptedStudent:
    """Write the adapter of `model`, as PEFT does; where the config says so, put it into the
    weights, which are then the student's, unless training on stored weights has done so."""
    section = config.student.lora
    assert section is not None
    (adapter,) = lora.adapters_of(model).values()
    trained, all_numbers = adapter.parameter_count(), model.parameter_count()
    adapter.save(folder / ADAPTER, base_model=config.student.model_id)
    if section.fuse and not model.fused:  # stored weights have it in them already
        lora.fuse(model)
    return AdaptedStudent(
        rank=section.rank,
        alpha=section.alpha,
        modules=len(adapter.layers),
        parameters=trained,
        share=trained / all_numbers,
        held_as=config.student.quantize,
        fused=section.fuse,
    )


def read_again(folder: Path, inputs: Inputs) -> Any:
    """The student whose adapter is in `folder`, on the model that it was trained on."""
    student = inputs.bare_student()
    lora.load_adapter(student, folder / ADAPTER)
    return student
