"""Models that are measured side by side: found and checked before any of them is loaded."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from entrenar_common.errors import ConfigError, NumericsError
from entrenar_core.data.load_tokenizer import load_tokenizer
from entrenar_core.data.tokenizer import Tokenizer
from entrenar_core.io.hub import resolve_model
from entrenar_core.models.architectures import model_class
from entrenar_core.models.computing import load_for
from entrenar_core.models.source import read_raw
from entrenar_distill.naming import about
from entrenar_distill.text_inputs import check_rows
from entrenar_distill.text_students import missing_head

__all__ = ["Candidate", "candidates", "check_finite", "check_sizes", "every_model"]


@dataclass(frozen=True)
class Candidate:
    """A model with this `head`, of which nothing but its config and tokenizer is in memory;
    `compute` names what it will compute in (see `models.computing`)."""

    name: str
    path: Path
    head: str
    tokenizer: Tokenizer
    compute: str

    @cached_property
    def config(self) -> Any:
        """What `config` of the model is."""
        raw = read_raw(self.path)
        return model_class(raw, self.head).Config.from_hf(raw)

    def load(self) -> Any:
        """The model."""
        return load_for(self.path, self.compute, head=self.head)


def every_model(names: Sequence[str], teacher: str | None) -> list[str]:
    """The names of all models that are measured, the teacher's first. Raises ConfigError without
    one, and where one is there twice."""
    if not names:
        raise ConfigError("nothing to measure", hint="give a model")
    every = [teacher, *names] if teacher else list(names)
    if repeated := {name for name in every if every.count(name) > 1}:
        raise ConfigError(f"{min(repeated)} is given more than once", hint="give each model once")
    return every


def candidates(
    names: Sequence[str], *, teacher: str | None, head: str, task: str, compute: str
) -> list[Candidate]:
    """The models called `names`, folders, files or names on the hub, the teacher first, to
    `compute` in what is called so.

    Raises ConfigError for a model without the head that `task` needs, or with another tokenizer
    than its own, and what opening them raises, with the model's name.
    """
    return [_candidate(name, head, task, compute) for name in every_model(names, teacher)]


def _candidate(name: str, head: str, task: str, compute: str) -> Candidate:
    path = resolve_model(name)
    with about(name):
        missing = missing_head(path, head)
        if missing:
            raise ConfigError(
                f"the model has no head for {task}: {', '.join(missing)} missing",
                hint="give models that were trained for the task, or choose another --task",
            )
        found = Candidate(name, path, head, load_tokenizer(path), compute)
        check_rows("the model", found, found.tokenizer)
    return found


def check_sizes(seq_len: int, batch_size: int | None = None) -> None:
    """Raise ConfigError for sizes of no tokens or rows."""
    if seq_len < 1 or (batch_size is not None and batch_size < 1):
        raise ConfigError(
            f"seq_len is {seq_len}, batch_size {batch_size}", hint="use at least 1 for both"
        )


def check_finite(name: str, finite: np.ndarray, names: Sequence[str], unit: str) -> None:
    """Raise NumericsError where a model's output is not `finite`, (N,), about one of the rows
    called `names`, each a `unit`."""
    bad = np.flatnonzero(~finite)
    if len(bad):
        raise NumericsError(
            f"{name}: the output is not finite in {unit} {names[bad[0]]} "
            f"({len(bad)} of {len(finite)} {unit}s)",
            hint="look at the model's weights for NaN and infinity: entrenar-inspect layers",
        )
