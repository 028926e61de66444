"""The keys of the configurations of a distillation and of a training, from their schemas."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from entrenar_core.train.strict import StrictModel

__all__ = ["Configuration", "is_known", "keys"]


Configuration = Literal["distill", "train"]


@cache
def keys(configuration: Configuration) -> frozenset[str]:
    """All dotted keys, those of sections left out; one that holds any keys ends in `.*`."""
    from entrenar_core.train.config import json_schema

    schema = json_schema(_model(configuration))
    return frozenset(_keys(schema, schema, ""))


def _model(configuration: Configuration) -> type[StrictModel]:
    if configuration == "train":
        from entrenar_core.train.declarative import TrainSpec

        return TrainSpec
    from entrenar_distill.config import DistillConfig

    return DistillConfig


def is_known(name: str, configuration: Configuration) -> bool:
    """Whether the configuration has such a key."""
    parts = name.split(".")
    above = (".".join(parts[:count]) + ".*" for count in range(1, len(parts)))
    known = keys(configuration)
    return name in known or any(key in known for key in above)


def _keys(schema: Mapping[str, Any], section: Mapping[str, Any], at: str) -> Iterator[str]:
    for name, field in section.get("properties", {}).items():
        key = f"{at}{name}"
        inner = [part for part in _choices(schema, field) if "properties" in part]
        for part in inner:
            yield from _keys(schema, part, f"{key}.")
        if any(part.get("type") == "object" for part in _choices(schema, field)) and not inner:
            yield f"{key}.*"
        elif not inner:
            yield key


def _choices(schema: Mapping[str, Any], field: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """What a key may be, with references replaced by what they refer to."""
    inner = field.get("anyOf") or field.get("oneOf")
    if inner:
        return [choice for part in inner for choice in _choices(schema, part)]
    if "$ref" in field:
        return _choices(schema, schema["$defs"][field["$ref"].rpartition("/")[2]])
    return [field]
