"""Ablations: a configuration, and the same with parts of it taken out."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

from entrenar_bench.base import ABSENT, RESERVED, Base, value_at, variant
from entrenar_bench.keys import full_key
from entrenar_bench.study.records import Arm, trial_id
from entrenar_common.errors import ConfigError
from entrenar_common.text import escape_controls
from entrenar_distill.config import DistillConfig

__all__ = ["FULL", "ablation_arms", "factorial_arms", "taken_out"]

FULL = "full"
"""What the arm is called that has every part."""

_MOST_PARTS = 6
"""Of a factorial: 64 arms."""

_SWITCH = ".enabled"


def ablation_arms(base: Base, parts: Sequence[str]) -> tuple[Arm, ...]:
    """The full configuration, and for each part one without it: a section that can be absent is,
    and any other key gets its default. A part is a key in full or its last part, and
    `attention.enabled` means the section.

    Raises ConfigError for an unknown key, for one without which there is no configuration, and for
    one that the full configuration does not have or has at its default.
    """
    full, keys = base.arm(FULL), _keys(parts)
    return full, *(_without(full, [key]) for key in keys)


def factorial_arms(base: Base, parts: Sequence[str]) -> tuple[Arm, ...]:
    """The full configuration, and one for each combination of parts taken out, fewest first.

    Raises ConfigError as `ablation_arms` does, and for more than 6 parts.
    """
    if len(parts) > _MOST_PARTS:
        raise ConfigError(
            f"a factorial of {len(parts)} parts has {2 ** len(parts)} arms",
            hint=f"name at most {_MOST_PARTS}, or take out one at a time",
        )
    full, keys = base.arm(FULL), _keys(parts)
    return full, *(_without(full, taken) for taken in _combinations(keys))


def taken_out(parts: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The parts that each arm of a factorial lacks, by the names that its arms call them by."""
    found = {_name(keys): tuple(map(_last, keys)) for keys in _combinations(_keys(parts))}
    return {FULL: (), **found}


def _combinations(keys: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Every choice of at least one, fewest first."""
    for count in range(1, len(keys) + 1):
        yield from itertools.combinations(keys, count)


def _name(keys: Sequence[str]) -> str:
    return f"without {', '.join(map(_last, keys))}"


def _last(key: str) -> str:
    return key.rpartition(".")[2]


def _without(full: Arm, keys: Sequence[str]) -> Arm:
    for key in keys:
        if value_at(full, key) is ABSENT:
            raise ConfigError(
                f"the configuration has no {key}: there is nothing to take out",
                hint="add it to the configuration, or leave it out of the ablation",
            )
    found = variant(full, _name(keys), dict.fromkeys(keys, ABSENT))
    if trial_id(found.config) == trial_id(full.config):
        raise ConfigError(
            f"{keys[0]} is {value_at(full, keys[0])}, its default: there is nothing to take out",
            hint="give it another value in the configuration, or leave it out of the ablation",
        )
    return found


def _keys(parts: Sequence[str]) -> list[str]:
    found: list[str] = []
    for part in parts:
        key = full_key(part.removesuffix(_SWITCH), DistillConfig)
        if key in RESERVED:
            raise ConfigError(f"{key} is no part of an ablation", hint=RESERVED[key])
        if key in found:
            raise ConfigError(
                f"the part {escape_controls(part)} is there twice", hint="name each part once"
            )
        found.append(key)
    if not found:
        raise ConfigError("no part is named", hint="name one such as progressive or temperature")
    return found
