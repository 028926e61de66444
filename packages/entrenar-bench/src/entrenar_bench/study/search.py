"""How the arms of a study came about: what was searched, how, by which criterion and command."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Search"]


@dataclass(frozen=True)
class Search:
    """What a study's records say of it; empty where they do not.

    axes: what was searched, as it was written; sampler: how arms were chosen there; metric and goal
    (lower or higher): what the best is chosen by; command: the line that was typed; drawn: the arms
    that are points drawn at random; taken_out: of a factorial, the parts that each arm lacks;
    order: that of the runs, where it is not by blocks of one seed.
    """

    axes: tuple[str, ...] = ()
    sampler: str = ""
    metric: str = ""
    goal: str = ""
    command: str = ""
    drawn: tuple[str, ...] = ()
    taken_out: Mapping[str, Sequence[str]] = field(default_factory=dict)
    order: str = ""

    @property
    def criterion(self) -> str:
        """What the best is chosen by, in words."""
        best = {"lower": "the lowest", "higher": "the highest"}.get(self.goal)
        return f"{best} mean of {self.metric} over seeds" if best and self.metric else ""

    def as_plain(self) -> dict[str, Any]:
        """As JSON has it, without what is empty."""
        return {name: value for name, value in dataclasses.asdict(self).items() if value}

    @classmethod
    def of(cls, plain: Any) -> Search:
        """Of what a study's file has: what is missing there, or is of another kind, is empty."""
        found = plain if isinstance(plain, Mapping) else {}
        texts = {
            name: found.get(name) for name in ("sampler", "order", "metric", "goal", "command")
        }
        lacks = found.get("taken_out")
        return cls(
            axes=_texts(found.get("axes")),
            drawn=_texts(found.get("drawn")),
            **{name: text for name, text in texts.items() if isinstance(text, str)},
            taken_out={str(arm): _texts(parts) for arm, parts in lacks.items()}
            if isinstance(lacks, Mapping)
            else {},
        )


def _texts(values: Any) -> tuple[str, ...]:
    found = values if isinstance(values, list | tuple) else ()
    return tuple(value for value in found if isinstance(value, str))
