"""The student of a task about whole texts, before its first step."""

from pathlib import Path
from typing import Any

from entrenar_common.errors import ConfigError
from entrenar_core import lora, models
from entrenar_core.models.classes import labels_of, with_labels
from entrenar_core.models.config_keys import label_keys
from entrenar_core.models.stored import StoredModel
from entrenar_distill.config import DistillConfig

__all__ = ["bare_text_student", "make_text_student", "missing_head"]

_INHERITED = (
    "vocab_size", "max_position_embeddings", "type_vocab_size", "bos_token_id", "eos_token_id",
    "pad_token_id",
)  # fmt: skip


def make_text_student(config: DistillConfig, teacher: Any, folder: Path | None, head: str) -> Any:
    """The student that `config` describes, with this `head`: loaded from `folder`, initialised from
    a seed, or cut from the teacher's layers; with its adapter, where it has one."""
    student = bare_text_student(config, teacher, folder, head)
    if config.student.lora is not None:
        _check_head(student.initialised, config.student.lora.modules_to_save)
        lora.adapt(student, config.student.lora.settings(), seed=config.training.seed)
    return student


def bare_text_student(config: DistillConfig, teacher: Any, folder: Path | None, head: str) -> Any:
    """The same without an adapter.

    A model in a folder keeps its own head where it has one for as many classes, and its own pooling
    where it has a modules.json; elsewhere the head is drawn, and the pooling is the teacher's.
    """
    section, seed = config.student, config.training.seed
    if section.layers_from_teacher is not None:
        return models.with_layers(teacher, section.layers_from_teacher)
    if folder is None:
        student = models.from_config(_keys(teacher, section.config or {}), seed=seed, head=head)
    else:
        student = _loaded(config, teacher, folder, head)
    if head == "embedding" and not (folder is not None and (folder / "modules.json").exists()):
        student.sentence = teacher.sentence
    return student


def missing_head(folder: Path, head: str) -> tuple[str, ...]:
    """The parameters of `head` that the model in `folder` has not. Raises what opening it does,
    UnsupportedError where its architecture has no such head among it."""
    with StoredModel(folder, head=head, head_may_miss=True) as found:
        return found.missing


def _keys(teacher: Any, given: dict[str, Any]) -> dict[str, Any]:
    """The keys of a config.json for a student of the teacher's vocabulary and classes."""
    shape = teacher.config
    inherited = {key: getattr(shape, key) for key in _INHERITED if hasattr(shape, key)}
    same = given.get("model_type", shape.model_type) == shape.model_type
    if not same:
        inherited.pop("type_vocab_size", None)
    classes = label_keys(getattr(shape, "labels", None))
    return {"model_type": shape.model_type, **inherited, **classes, **given}


def _loaded(config: DistillConfig, teacher: Any, folder: Path, head: str) -> Any:
    held = {} if config.student.quantize is None else {"quantize": config.student.quantize}
    seed = config.training.seed
    student = models.load(folder, head=head, initialise_head_seed=seed, **held)
    if head != "sequence-classification" or labels_of(student) == labels_of(teacher):
        return student
    if not student.initialised:
        raise ConfigError(
            f"{folder}: the student classifies into {', '.join(labels_of(student))}, the teacher "
            f"into {', '.join(labels_of(teacher))}",
            hint="give a student of the same classes, or one without a classification head",
        )
    return with_labels(student, labels_of(teacher), head=head, seed=seed)


def _check_head(drawn: tuple[str, ...], saved: tuple[str, ...]) -> None:
    """A head that was drawn has to be trained: an adapter leaves the weights beside it."""
    for name in drawn:
        parts = name.split(".")[:-1]
        paths = [".".join(parts[:end]) for end in range(1, len(parts) + 1)]
        if not any(f".{path}".endswith(f".{module}") for path in paths for module in saved):
            raise ConfigError(
                f"{name} of the student was drawn, and an adapter alone would leave it so",
                hint=f"add {parts[-1] if len(parts) < 3 else parts[-2]} to "
                "student.lora.modules_to_save",
            )
