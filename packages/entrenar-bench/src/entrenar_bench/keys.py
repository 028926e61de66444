"""The keys of a configuration that an axis can be called by: in full, or by their last part."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from pydantic import BaseModel

from entrenar_bench.space import Axis
from entrenar_common.errors import ConfigError
from entrenar_common.text import escape_controls, nearest
from entrenar_core.train.problems import section_of

__all__ = ["full_key", "with_full_keys"]


def with_full_keys(
    axes: Sequence[Axis], model: type[BaseModel], *, reserved: Mapping[str, str]
) -> list[Axis]:
    """`axes` with their keys in full: `temperature` is distillation.temperature of `model`.

    `reserved` keys are no axes: each with what to do instead. Raises ConfigError for these, for an
    unknown key, with the nearest one, and for a part of several keys.
    """
    found = []
    for axis in axes:
        key = full_key(axis.name, model)
        if key in reserved:
            raise ConfigError(f"{key} is no axis of a sweep", hint=reserved[key])
        found.append(replace(axis, name=key))
    return found


def full_key(name: str, model: type[BaseModel]) -> str:
    """The key of `model` that `name` is, or is the last part of; the least deep one counts."""
    keys = list(_keys(model))
    plain = ".".join(part for part in name.split(".") if not part.isdecimal())  # items of lists
    if plain in keys:
        return name
    ends = [key for key in keys if key.endswith(f".{name}")]
    least = min((key.count(".") for key in ends), default=0)
    ends = [key for key in ends if key.count(".") == least]
    if len(ends) == 1:
        return ends[0]
    if ends:
        raise ConfigError(
            f"{escape_controls(name)} could be {' or '.join(ends)}", hint="give the key in full"
        )
    guess = nearest(name, keys) or _by_last_part(name, keys)
    raise ConfigError(
        f"{escape_controls(name)}: unknown key" + (f"; did you mean {guess}?" if guess else ""),
        hint="keys are those of the configuration file, such as distillation.temperature",
    )


def _by_last_part(name: str, keys: Sequence[str]) -> str | None:
    lasts: dict[str, str] = {}
    for key in sorted(keys, key=lambda key: key.count(".")):
        lasts.setdefault(key.rpartition(".")[2], key)
    guess = nearest(name.rpartition(".")[2], lasts)
    return lasts[guess] if guess else None


def _keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name in model.model_fields:
        yield prefix + name
        section = section_of(model, name)
        if section is not None:
            yield from _keys(section, f"{prefix}{name}.")
