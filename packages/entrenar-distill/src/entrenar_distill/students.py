"""The student before its first step: loaded, initialised from a seed, or cut from its teacher."""

from pathlib import Path
from typing import Any

from entrenar_common.errors import NotFoundError
from entrenar_core import lora, models
from entrenar_core.data.load_tokenizer import has_tokenizer, load_tokenizer
from entrenar_core.data.tokenizer import Tokenizer
from entrenar_core.io.hub import resolve_model
from entrenar_distill import cached
from entrenar_distill.config import DistillConfig
from entrenar_distill.teachers import LoadedTeacher


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
        return models.load(folder, quantize=student.quantize)
    if student.layers_from_teacher is not None:
        return models.with_layers(cached.loaded(teacher), student.layers_from_teacher)
    raw = {**inherited(student.tokenizer, teacher), **(student.config or {})}
    return models.from_config(raw, seed=config.training.seed)


def inherited(tokenizer: str | None, teacher: Any) -> dict[str, Any]:
    """What an architecture in a configuration has where it says nothing else: the positions of its
    teacher, and the tokens of its own tokenizer's folder, or its teacher's."""
    return {
        "max_position_embeddings": teacher.config.max_position_embeddings,
        **_vocabulary(tokenizer, teacher),
    }


def _vocabulary(tokenizer: str | None, teacher: Any) -> dict[str, Any]:
    """The keys of a config about tokens: of a tokenizer's folder, else the teacher's."""
    if tokenizer is None:
        names = ("vocab_size", "bos_token_id", "eos_token_id", "pad_token_id")
        return {name: getattr(teacher.config, name) for name in names}
    own = _own_tokenizer(Path(tokenizer))
    return {
        "vocab_size": own.vocab_size,
        "bos_token_id": own.bos_id,
        "eos_token_id": own.eos_id,
        "pad_token_id": own.pad_id,
    }


def student_folder(config: DistillConfig) -> Path | None:
    """Where the student that is started from lies, None for one that is made here."""
    student = config.student
    return resolve_model(student.model_id, student.revision) if student.model_id else None


def student_tokenizer(
    config: DistillConfig, folder: Path | None, teacher: LoadedTeacher
) -> tuple[Tokenizer, str]:
    """The student's own tokenizer, and whose it is, in words; one that is made here, or has none,
    uses the teacher's."""
    own = config.student.tokenizer
    if own is not None:
        return _own_tokenizer(Path(own)), f"{own}: the student's"
    if folder is None or not has_tokenizer(folder):
        return teacher.tokenizer, f"{teacher.path}: the {teacher.name}'s"
    return load_tokenizer(folder), f"{folder}: the student's"


def _own_tokenizer(folder: Path) -> Tokenizer:
    if not has_tokenizer(folder):
        raise NotFoundError(
            f"{folder}: the student has no tokenizer.json",
            hint="copy the tokenizer files of the model into its folder",
        )
    return load_tokenizer(folder)
