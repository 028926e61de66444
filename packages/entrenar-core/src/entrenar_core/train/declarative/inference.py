"""Which columns of the data are text and label, and what follows from that for the task."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from entrenar_common.errors import ConfigError
from entrenar_common.progress import Progress
from entrenar_common.text import escape_controls, nearest
from entrenar_core.data.columns import Column, columns_of
from entrenar_core.data.sources import FIELD_NAMES, DatasetSpec, list_files
from entrenar_core.train.declarative.spec import TrainSpec
from entrenar_core.train.declarative.tasks import (
    CAUSAL_LM,
    REGRESSION,
    SEQUENCE_CLASSIFICATION,
    TaskName,
)

__all__ = ["Decision", "decide"]

_TEXTS = ("text", "content", "sentence", "document", "review", "body", "question", "prompt")
_LABELS = ("label", "labels", "target", "class", "category", "y", "score", "rating", "sentiment")
"""What people call the columns that are looked for, the likeliest first."""
_TASKS: dict[str, TaskName] = {"categorical": SEQUENCE_CLASSIFICATION, "numeric": REGRESSION}


@dataclass(frozen=True)
class Decision:
    """What is read of a row, and what the model is for; `why` says how that was found.

    text_field: the field with the text, also where files are texts and have no fields
    label_field: the field with the label, None for none
    """

    task: TaskName
    text_field: str
    label_field: str | None
    why: tuple[str, ...]


def decide(spec: TrainSpec, dataset: DatasetSpec, *, progress: Progress) -> Decision:
    """What `spec` says, and where it says nothing what a sample of the rows of `dataset` shows.

    Raises ConfigError where that is not clear, and what reading the files raises.
    """
    data = spec.data
    tables = [source for source in list_files(dataset) if source.format in FIELD_NAMES]
    if not data.auto_infer_types or not tables:
        return _as_told(spec, "data.auto_infer_types is off" if tables else "files of text")
    progress.start("infer types", None)
    columns = columns_of(tables[0], tables[0].format)
    found = _by_columns(spec, columns, tables[0].name)
    label = {} if found.label_field is None else {"label": found.label_field}
    progress.advance(len(columns), text=found.text_field, **label, task=found.task)
    progress.finish()
    return found


def _as_told(spec: TrainSpec, because: str) -> Decision:
    data, task = spec.data, spec.task or CAUSAL_LM
    why = f"task: {task}, " + ("as the configuration says" if spec.task else because)
    if task != CAUSAL_LM and data.label_field is None:
        raise ConfigError(
            f"{task} without data.label_field, and {because}",
            hint="name the field or column with the labels as data.label_field",
        )
    return Decision(task, data.text_field or "text", data.label_field, (why,))


def _by_columns(spec: TrainSpec, columns: Sequence[Column], file: str) -> Decision:
    text, text_why = _text(spec, columns, file)
    label, label_why = _label(spec, [c for c in columns if c != text], file)
    why = [f"text: {_shown(text.name)}, {text_why}"]
    if label is None:
        why.append(f"task: {CAUSAL_LM}, {label_why}")
        return Decision(CAUSAL_LM, text.name, None, tuple(why))
    why.append(f"label: {_shown(label.name)}, {label_why}")
    task = spec.task
    if task is None:
        task = _TASKS.get(label.kind)
        if task is None:
            raise ConfigError(
                f"{file}: the column {_shown(label.name)} is {label.kind} ({label.why}): neither "
                "classes nor numbers",
                hint="say task: sequence-classification or regression, or name another label_field",
            )
        why.append(f"task: {task}, since {_shown(label.name)} is {label.kind} ({label.why})")
    else:
        why.append(f"task: {task}, as the configuration says")
    return Decision(task, text.name, label.name, tuple(why))


def _text(spec: TrainSpec, columns: Sequence[Column], file: str) -> tuple[Column, str]:
    if spec.data.text_field is not None:
        return _named(spec.data.text_field, "text_field", columns, file), "as data.text_field says"
    able = [c for c in columns if c.strings and c.name != spec.data.label_field]
    called = _called(_TEXTS, able)
    if called is not None:
        return called, f"by its name ({called.why})"
    texts = [c for c in able if c.kind == "text"]
    if not texts:
        raise ConfigError(
            f"{file}: no column holds text to be read",
            hint=f"name it as data.text_field: {_list(columns)}",
        )
    longest = max(texts, key=lambda c: c.length)
    why = longest.why if len(texts) == 1 else f"the longest of {len(texts)} ({longest.why})"
    return longest, why


def _label(spec: TrainSpec, columns: Sequence[Column], file: str) -> tuple[Column | None, str]:
    if spec.data.label_field is not None:
        found = _named(spec.data.label_field, "label_field", columns, file)
        return found, "as data.label_field says"
    if spec.task == CAUSAL_LM:
        return None, "as the configuration says"
    able = [c for c in columns if c.kind in _TASKS]
    if spec.task == REGRESSION:
        able = [c for c in able if not c.strings]
    called = _called(_LABELS, able)
    if called is not None:
        return called, f"by its name ({called.why})"
    if len(able) > 1:
        raise ConfigError(
            f"{file}: several columns could be the label: {_list(able)}",
            hint=f"name it as data.label_field, or say task: {CAUSAL_LM}",
        )
    if able:
        return able[0], f"the only column of values or numbers ({able[0].why})"
    if spec.task is not None:
        raise ConfigError(
            f"{file}: no column holds labels for {spec.task}",
            hint=f"name it as data.label_field: {_list(columns)}",
        )
    return None, "since no column holds labels"


def _named(name: str, key: str, columns: Sequence[Column], file: str) -> Column:
    found = next((c for c in columns if c.name == name), None)
    if found is None:
        near = nearest(name, [c.name for c in columns])
        guess = f"did you mean {_shown(near)}? " if near else ""
        raise ConfigError(
            f"{file}: there is no column {_shown(name)}, which data.{key} names",
            hint=f"{guess}its columns are {_list(columns)}",
        )
    return found


def _called(names: Sequence[str], columns: Sequence[Column]) -> Column | None:
    """The column whose name comes first in `names`, in any case."""
    known = {column.name.lower(): column for column in reversed(columns)}
    return next((known[name] for name in names if name in known), None)


def _list(columns: Sequence[Column]) -> str:
    return ", ".join(f"{_shown(c.name)} ({c.kind})" for c in columns)


def _shown(name: Any) -> str:
    return escape_controls(str(name))
