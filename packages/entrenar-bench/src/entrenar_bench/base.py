"""The distillation that arms are variants of: a configuration file with a command line over it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from entrenar_bench.study.records import Arm
from entrenar_core.train.config import Setting, load_config
from entrenar_distill.config import DistillConfig, resolve
from entrenar_distill.task_names import UNUSED

__all__ = ["ABSENT", "RESERVED", "Base", "value_at", "variant"]

RESERVED = {
    "training.seed": "seeds are an axis of every study: give them as its seeds",
    "output.dir": "each run gets a folder of its own",
}
"""Keys that no arm has, each with what to do instead."""

ABSENT = object()
"""As the value of a key: the key is taken out, so that its default counts."""


@dataclass(frozen=True)
class Base:
    """What a command is given to make configurations of; fields are those of `resolve`."""

    config: str | os.PathLike[str] | None
    teacher: str | None = None
    student: str | None = None
    overrides: tuple[tuple[str, str], ...] = ()

    def for_epochs(self, epochs: int | None) -> Base:
        """The same with trainings of so many epochs, whatever length it says; None: as it is."""
        if epochs is None:
            return self
        length = (("training.max_steps", "null"), ("training.epochs", str(epochs)))
        return replace(self, overrides=(*self.overrides, *length))

    def arm(self, name: str, changes: Mapping[str, Any] | None = None) -> Arm:
        """The whole configuration with `changes` laid over it, by keys in full.

        Raises what `entrenar_distill.config.resolve` raises.
        """
        return Arm(name, _plain(self._resolved(_texts(changes or {}))))

    def _resolved(self, overrides: Sequence[tuple[str, str]]) -> DistillConfig:
        return resolve(
            self.config,
            teacher=self.teacher,
            student=self.student,
            overrides=[*self.overrides, *overrides],
        )


def variant(arm: Arm, name: str, changes: Mapping[str, Any]) -> Arm:
    """`arm` under another name and with other values, by keys in full; ABSENT takes a key out.

    Raises ConfigError where what comes of it is no configuration.
    """
    data = json.loads(json.dumps(arm.config))
    for key, value in changes.items():
        _put(data, key.split("."), value)
    settings = [Setting((key,), value, f"the arm {name}") for key, value in data.items()]
    config, _ = load_config(DistillConfig, None, settings=settings)
    return Arm(name, _plain(config))


def value_at(arm: Arm, key: str) -> Any:
    """The value of a key in full, ABSENT where the arm has none."""
    found: Any = arm.config
    for part in key.split("."):
        if not isinstance(found, Mapping) or part not in found:
            return ABSENT
        found = found[part]
    return found


def _put(data: dict[str, Any], path: Sequence[str], value: Any) -> None:
    *sections, last = path
    for section in sections:
        if section not in data and value is ABSENT:
            return  # it went with a section around it
        data = data.setdefault(section, {})
    if value is ABSENT:
        data.pop(last, None)
    else:
        data[last] = value


def _plain(config: DistillConfig) -> dict[str, Any]:
    unused: Any = UNUSED[config.task]  # keys that mean nothing to the task and are refused
    data = config.model_dump(mode="json", exclude_none=True, exclude=unused)
    data["training"].pop("seed")
    data["output"].pop("dir")
    return data


def _texts(point: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Keys with their values as YAML, of which JSON is a part."""
    return [(key, json.dumps(value)) for key, value in point.items()]
