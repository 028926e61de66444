"""What is wrong in a config of merging, collected and reported at once with its lines."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from entrenar_common.errors import ConfigError, EntrenarError, UnsupportedError
from entrenar_common.text import escape_controls, nearest
from entrenar_core.io.yaml_file import KeyPath, Located


@dataclass(frozen=True)
class Problem:
    """One thing to correct: where it was written, what is wrong, and what to do."""

    where: str
    text: str
    hint: str | None
    unsupported: bool

    def __str__(self) -> str:
        return f"{self.where}: {self.text}" if self.where else self.text


@dataclass
class Problems:
    """The problems of one config; `located` knows the lines."""

    located: Located
    found: list[Problem] = field(default_factory=list)

    def add(
        self, path: KeyPath, text: str, *, hint: str | None = None, unsupported: bool = False
    ) -> None:
        """A problem of the value at `path`; `unsupported` where nothing here does what it means."""
        key = ".".join(str(part) for part in path)
        said = f"{key}: {text}" if key else text
        where = self.located.where(path)
        self.found.append(Problem(where, escape_controls(said), hint, unsupported))

    def section(self, value: Any, path: KeyPath, known: Sequence[str]) -> dict[str, Any]:
        """The keys of a section that have a value; empty, with a problem, where it is none."""
        if not isinstance(value, dict):
            self.add(path, f"must be a section of keys, not {shown(value)}")
            return {}
        for key in value.keys() - set(known):
            close = nearest(key, known)
            guess = f"; did you mean {close}?" if close else ""
            self.add((*path, key), f"unknown key{guess}", hint=f"its keys are {', '.join(known)}")
        return {key: value[key] for key in known if value.get(key) is not None}

    def items(self, value: Any, path: KeyPath) -> list[tuple[KeyPath, Any]]:
        """The items of a list with their paths; none, with a problem, where it has none."""
        if not isinstance(value, list) or not value:
            self.add(path, f"must be a list of at least one, not {shown(value)}")
            return []
        return [((*path, index), item) for index, item in enumerate(value)]

    def text(self, value: Any, path: KeyPath) -> str | None:
        """`value` where it is text that says something; else None, with a problem."""
        if isinstance(value, str) and value.strip():
            return value
        self.add(path, f"must be text, not {shown(value)}", hint="put quotes around it")
        return None

    def raise_any(self) -> None:
        """Raises one ConfigError for all, or UnsupportedError where all are of that kind."""
        if not self.found:
            return
        kind: type[EntrenarError] = ConfigError
        if all(problem.unsupported for problem in self.found):
            kind = UnsupportedError
        name = self.located.name
        if len(self.found) == 1:
            (problem,) = self.found
            raise kind(f"{name}: {problem}", hint=problem.hint or f"correct {name}")
        ordered = sorted(self.found, key=lambda problem: _line_number(problem.where))
        hints = {problem.hint for problem in self.found}
        common = hints.pop() if len(hints) == 1 else None
        raise kind(
            f"{name}: {len(ordered)} problems",
            details=[str(problem) for problem in ordered],
            hint=common or "correct these; nothing has been started",
        )


def shown(value: Any) -> str:
    """`value` as it looks in YAML, shortened."""
    if isinstance(value, dict):
        return "a section of keys"
    if isinstance(value, list):
        return "a list" if value else "an empty list"
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    text = repr(value) if not isinstance(value, str) else f"'{value}'"
    return escape_controls(text if len(text) <= 60 else f"{text[:57]}...")


def _line_number(where: str) -> float:
    return float(where.removeprefix("line ")) if where.startswith("line ") else math.inf
