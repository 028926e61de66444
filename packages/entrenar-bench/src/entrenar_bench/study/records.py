"""What a study is made of: its plan, its trials, and what became of them."""

from __future__ import annotations

import dataclasses
import enum
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from entrenar_common.errors import ConfigError
from entrenar_common.text import escape_controls

__all__ = [
    "Arm",
    "Asked",
    "Attempt",
    "Lease",
    "Plan",
    "Status",
    "Trial",
    "canonical",
    "run_id",
    "trial_id",
]

Config = Mapping[str, Any]


class Status(enum.Enum):
    """Where a run is. `HELD` waits for a later rung, and `PRUNED` was held when its arm was not
    among the best; `DROPPED` was planned once, and an edited space has it no more."""

    WAITING = "waiting"
    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"
    HELD = "held"
    PRUNED = "pruned"
    DROPPED = "dropped"


@dataclass(frozen=True)
class Arm:
    """A name for one resolved configuration, of plain values."""

    name: str
    config: Config


@dataclass(frozen=True)
class Plan:
    """What a study runs: every arm with every seed.

    space: how the arms came about, in plain values, for the reader; order_seed: of the stream that
    shuffles the arms inside each block.

    A plan with a `rule`, in plain values, is not whole yet: by that rule results decide which arms
    are added (`Study.extend`), or which go on after the first `open_seeds` (`Study.advance`).
    """

    arms: tuple[Arm, ...]
    seeds: tuple[int, ...]
    name: str = "study"
    space: Config = field(default_factory=dict)
    order_seed: int = 0
    rule: Config | None = None
    open_seeds: int | None = None

    def check(self) -> None:
        """Raise ConfigError for a plan without runs, or with the same run twice."""
        if not self.arms or not self.seeds:
            raise ConfigError(
                f"the study has {len(self.arms)} arms and {len(self.seeds)} seeds",
                hint="give at least one of each",
            )
        _check_unique("seed", [str(seed) for seed in self.seeds])
        _check_unique("arm", [arm.name for arm in self.arms])
        seen: dict[str, str] = {}
        for arm in self.arms:
            twin = seen.setdefault(trial_id(arm.config), arm.name)
            if twin != arm.name:
                raise ConfigError(
                    f"the arms {escape_controls(twin)} and {escape_controls(arm.name)} have the "
                    "same configuration",
                    hint="leave one out: its runs would be compared with themselves",
                )

    def as_plain(self) -> dict[str, Any]:
        """The plan as JSON has it."""
        return dataclasses.asdict(self)

    @property
    def digest(self) -> str:
        """SHA-256 over the configurations and the seeds, in any order, the rule, and no names."""
        trials = sorted(trial_id(arm.config) for arm in self.arms)
        found = {"trials": trials, "seeds": sorted(self.seeds)}
        return _sha256(canonical(found if self.rule is None else found | {"rule": self.rule}))


@dataclass(frozen=True)
class Asked:
    """How a plan has grown: the points in the order in which they were asked for, each by a hash of
    its own, and what each was found to be worth, None where it failed; the last may be open."""

    points: tuple[str, ...] = ()
    told: tuple[float | None, ...] = ()

    def departs(self, other: Asked) -> int | None:
        """The first point in which the two differ as far as both go; None where they agree."""
        for ours, theirs in ((self.points, other.points), (self.told, other.told)):
            for place, (one, another) in enumerate(zip(ours, theirs, strict=False)):
                if one != another:
                    return place
        return None


@dataclass(frozen=True)
class Trial:
    """A run of an arm with a seed: `id` is of the configuration, `run` of both."""

    position: int
    run: str
    id: str
    arm: str
    seed: int
    config: Config
    status: Status
    error: str | None = None


@dataclass(frozen=True)
class Lease:
    """The right to report on a run until `deadline`; later leases have larger tokens."""

    trial: Trial
    token: int
    worker: str
    deadline: float


@dataclass(frozen=True)
class Attempt:
    """One time that a run was begun; `outcome` is None while it is under way."""

    token: int
    run: str
    worker: str
    started: float
    ended: float | None
    outcome: str | None
    error: str | None


def canonical(value: Any) -> str:
    """`value` as the one JSON text that equal values have. Raises ConfigError for what has none."""
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"a configuration has a value that JSON cannot hold: {error}",
            hint="use text, finite numbers, true, false, null, lists and sections of these",
        ) from error


def trial_id(config: Config) -> str:
    """The name of a configuration: 16 hexadecimal digits of its SHA-256."""
    return _sha256(canonical(config))[:16]


def run_id(config: Config, seed: int) -> str:
    """The name of a run: 16 hexadecimal digits of the SHA-256 of configuration and seed."""
    return _sha256(canonical([config, seed]))[:16]


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _check_unique(what: str, names: Sequence[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ConfigError(
                f"the {what} {escape_controls(name)} is there twice", hint="name each once"
            )
        seen.add(name)
