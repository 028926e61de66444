"""Which task models are measured on: what they say themselves, or what was asked for."""

from collections.abc import Sequence
from pathlib import Path

from entrenar_common.errors import ConfigError
from entrenar_core.io.hub import resolve_model
from entrenar_core.models.architectures import heads_of, named_head
from entrenar_core.models.source import read_raw
from entrenar_distill.naming import about
from entrenar_distill.task_names import SENTENCE_EMBEDDING
from entrenar_distill.text_students import missing_head

__all__ = ["check_teacher_task", "task_of_models"]


def task_of_models(names: Sequence[str]) -> str:
    """The task that all of the models called `names` are for, by their files.

    Raises ConfigError where one of them says two things, or two say different ones.
    """
    tasks = {name: _task_of(name) for name in names}
    first = names[0]
    for name, task in tasks.items():
        if task != tasks[first]:
            raise ConfigError(
                f"{first} is for {tasks[first]}, {name} for {task}",
                hint=f"choose with --task {tasks[first]} or --task {task}, or measure them apart",
            )
    return tasks[first]


def check_teacher_task(teacher: str, task: str) -> None:
    """Raise ConfigError for a teacher that says it is for another task."""
    found = _task_of(teacher)
    if found != task:
        raise ConfigError(
            f"the teacher {teacher} is for {found}, the models for {task}",
            hint=f"give a teacher for {task}, or choose with --task {task}",
        )


def _task_of(name: str) -> str:
    path = resolve_model(name)
    with about(name):
        raw = read_raw(path)
        named = named_head(raw)
        vectors = path.is_dir() and (path / "modules.json").is_file()
        if vectors and named not in (None, "embedding"):
            raise ConfigError(
                f"architectures in config.json says {named}, modules.json {SENTENCE_EMBEDDING}",
                hint=f"choose with --task {named} or --task {SENTENCE_EMBEDDING}",
            )
        head = "embedding" if vectors else named or _head_there(path, list(heads_of(raw)))
    return SENTENCE_EMBEDDING if head == "embedding" else head


def _head_there(path: Path, heads: Sequence[str]) -> str:
    """The first head that all weights are there of; files, and some folders, name none. Where the
    weights are wrong for any, the first one, with which the error is the plainest."""
    for head in heads:
        try:
            if not missing_head(path, head):
                return head
        except ConfigError:  # weights of another head
            continue
    return heads[0]
