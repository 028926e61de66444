"""The student before its first step: loaded, initialised from a seed, or cut from its teacher."""

from pathlib import Path
from typing import Any

from entrenar_core import lora, models
from entrenar_core.data.load_tokenizer import has_tokenizer, load_tokenizer
from entrenar_core.data.tokenizer import Tokenizer
from entrenar_core.io.hub import resolve_model
from entrenar_distill.config import DistillConfig


def make_student(config: DistillConfig, teacher: Any, folder: Path | None) -> Any:
    """The student that `config` describes: loaded from `folder`, initialised from a seed, or cut
    from the teacher's layers; with its adapter, where it has one."""
    student = bare_student(config, teacher, folder)
    if config.student.lora is not None:
        lora.adapt(student, config.student.lora.settings(), seed=config.training.seed)
    return student


def bare_student(config: DistillConfig, teacher: Any, folder: Path | None) -> Any:
    """The same without an adapter."""
    student = config.student
    if folder is not None:
        held = {} if student.quantize is None else {"quantize": student.quantize}
        return models.load(folder, **held)
    if student.layers_from_teacher is not None:
        return models.with_layers(teacher, student.layers_from_teacher)
    raw = {**inherited(teacher.config), **(student.config or {})}
    return models.from_config(raw, seed=config.training.seed)


def inherited(teacher: Any) -> dict[str, Any]:
    """What an architecture in a configuration has from the config of its teacher, where it says
    nothing else."""
    return {
        "vocab_size": teacher.vocab_size,
        "max_position_embeddings": teacher.max_position_embeddings,
        "bos_token_id": teacher.bos_token_id,
        "eos_token_id": teacher.eos_token_id,
        "pad_token_id": teacher.pad_token_id,
    }


def student_folder(config: DistillConfig) -> Path | None:
    """Where the student that is started from lies, None for one that is made here."""
    student = config.student
    return resolve_model(student.model_id, student.revision) if student.model_id else None


def student_tokenizer(folder: Path | None, teachers: Tokenizer) -> Tokenizer:
    """The student's own tokenizer; one that is made here, or has none, uses the teacher's."""
    if folder is None or not has_tokenizer(folder):
        return teachers
    return load_tokenizer(folder)
