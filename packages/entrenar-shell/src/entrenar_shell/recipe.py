"""What it takes to do a session's work again somewhere else: its command lines, in which each path
that they write, or read after one has written it, stands below a root that is not known yet.

Pure: paths are texts here, and nothing is looked up on a disk.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from entrenar_common.errors import UsageError
from entrenar_shell.command import PlainLine
from entrenar_shell.session import Entry, FileState, Session
from entrenar_shell.tools import TOOLS
from entrenar_shell.values import Value, command_of, values_of

__all__ = ["FINDING", "Below", "Part", "Recipe", "Step", "is_in", "recipe", "words_at"]

FINDING = 1
"""The exit code of a command that did its work and found something wrong: no failure."""

_WRITES = frozenset({"output", "study"})
"""Names of parameters that say where something is written."""


@dataclass(frozen=True)
class Below:
    """A path below the root."""

    path: str


Part = str | Below
"""A piece of a word; pieces follow each other without a space."""


@dataclass(frozen=True)
class Step:
    """One command line, run in `folder`, which may end with any of `codes`. `left_out` says why it
    is not run again, and is empty when it is."""

    number: int
    line: PlainLine
    words: tuple[tuple[Part, ...], ...]
    folder: str
    codes: tuple[int, ...] = (0,)
    left_out: str = ""


@dataclass(frozen=True)
class Recipe:
    """Steps by entry; an entry of the shell itself has none.

    `outputs` have for each path that was written where that is below the root, and `spelt` how
    else the command lines called it. `inputs` are what was read and not written before, as the
    first command that read it saw it. `folders` below the root have to be there.
    """

    entries: tuple[tuple[Entry, tuple[Step, ...]], ...]
    outputs: dict[str, str]
    spelt: dict[str, frozenset[str]]
    inputs: tuple[FileState, ...]
    folders: tuple[str, ...]
    states: dict[str, FileState] = field(default_factory=dict)
    """What was written, as the last command that did left it."""

    @property
    def steps(self) -> Iterator[Step]:
        """All of them, those that are left out too."""
        return (step for _, steps in self.entries for step in steps)


def words_at(step: Step, place: Callable[[str], str]) -> list[str]:
    """The words of a step, with `place` saying what a path below the root is."""
    return [
        "".join(part if isinstance(part, str) else place(part.path) for part in word)
        for word in step.words
    ]


def recipe(session: Session) -> Recipe:
    """The recipe of a session.

    The root stands for the nearest folder that all outputs are in. Left out are the lines of
    entries that failed, and those that have written something which their words do not name.
    """
    redone = [entry for entry in session.entries if _is_redone(entry)]
    everything = [path for entry in redone for path in (*_written(entry), *_targets(entry))]
    root = os.path.commonpath([str(Path(path).parent) for path in everything] or ["/"])
    found = _Redirected(root)
    entries = tuple((entry, found.steps(entry)) for entry in session.entries)
    return Recipe(
        entries,
        found.outputs,
        {path: frozenset(names) for path, names in found.spelt.items()},
        tuple(found.inputs.values()),
        tuple(sorted({str(Path(path).parent) for path in found.outputs.values()} - {"."})),
        found.states,
    )


def _is_redone(entry: Entry) -> bool:
    return bool(entry.plain) and not _problem(entry)


def _problem(entry: Entry) -> str:
    """Why the lines of an entry are not run again; empty when they are."""
    if entry.code not in (0, FINDING):
        return f"it ended with {entry.code}"
    for line in entry.plain:
        if not line or line[0] not in TOOLS:
            return "it is no command line of a tool"
        if any("\0" in word for word in (*line, entry.folder)):
            return "there is a NUL in it"
    return ""


def _written(entry: Entry) -> tuple[str, ...]:
    """Absolute paths of what an entry wrote: what is recorded, and what its lines name."""
    recorded = [_absolute("/", state.path) for state in entry.outputs]
    dry = any("--dry-run" in line for line in entry.plain)
    return tuple(dict.fromkeys([*recorded, *([] if dry else _targets(entry))]))


def _targets(entry: Entry) -> Iterator[str]:
    """What the lines of an entry name to write to, also where they only say what they would do."""
    for line in entry.plain:
        for value in _known_values(line):
            if value.param.name in _WRITES:
                yield _absolute(entry.folder, line[value.index][value.start :])


def _known_values(line: PlainLine) -> list[Value]:
    try:
        return list(values_of(line))
    except UsageError:  # a program of another release
        return []


def _absolute(folder: str, path: str) -> str:
    return os.path.normpath(Path("/", folder, path))


def is_in(path: str, folder: str) -> bool:
    """Whether a path is another or lies below it, both absolute and without any `..`."""
    return path == folder or path.startswith(folder.rstrip("/") + "/")


class _Redirected:
    """Goes through the entries in their order, and knows what was written up to each."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.outputs: dict[str, str] = {}
        self.spelt: dict[str, set[str]] = {}
        self.inputs: dict[str, FileState] = {}
        self.states: dict[str, FileState] = {}

    def steps(self, entry: Entry) -> tuple[Step, ...]:
        if problem := _problem(entry):
            return tuple(_left_out(entry, line, problem) for line in entry.plain)
        for state in entry.inputs:
            on_disk = state.path.startswith("/")  # not on the hub
            if on_disk and self._output_of(state.path) is None:
                self.inputs.setdefault(state.path, state)
        before, written = dict(self.outputs), _written(entry)
        self.outputs |= {path: os.path.relpath(path, self.root) for path in written}
        made = [self._words(line, entry) for line in entry.plain]
        named = {path for _, paths in made for path in paths}
        missing = [path for path in written if not any(is_in(at, path) for at in named)]
        words = [words for words, _ in made]
        if missing and not self._add_output(entry, words, missing):
            self.outputs = before
            why = f"its words do not name what it wrote, {missing[0]}"
            return tuple(_left_out(entry, line, why) for line in entry.plain)
        self.states |= {state.path: state for state in entry.outputs}
        codes = (0,) if entry.code == 0 else (0, entry.code)
        return tuple(
            Step(entry.number, line, tuple(own), entry.folder, codes)
            for line, own in zip(entry.plain, words, strict=True)
        )

    def _words(self, line: PlainLine, entry: Entry) -> tuple[list[tuple[Part, ...]], set[str]]:
        """The words with paths below the root, and which paths these are."""
        words: list[tuple[Part, ...]] = [(word,) for word in line]
        named: set[str] = set()
        for value in _known_values(line):
            if value.may_be_path:
                word = line[value.index]
                text = word[value.start :]
                if value.param.name in _WRITES:
                    parts = [self._below(_absolute(entry.folder, text), text, named)]
                else:
                    parts = self._parts(text, entry.folder, named)
                words[value.index] = tuple(part for part in (word[: value.start], *parts) if part)
        return words, named

    def _parts(self, text: str, folder: str, named: set[str]) -> list[Part]:
        """Of a value: a path, KEY=PATH, or several with + between them."""
        whole = self._place(text, folder, named)
        if whole is not None:
            return [whole]
        left, sign, right = text.partition("=")
        if sign:
            return [left, sign, *self._parts(right, folder, named)]
        left, sign, right = text.partition("+")
        if sign:
            return [*self._parts(left, folder, named), sign, *self._parts(right, folder, named)]
        return [text]

    def _place(self, text: str, folder: str, named: set[str]) -> Below | None:
        path = _absolute(folder, text)
        written = text and self._output_of(path) is not None
        return self._below(path, text, named) if written else None

    def _below(self, path: str, text: str, named: set[str]) -> Below:
        named.add(path)
        if path in self.outputs:
            self.spelt.setdefault(path, set()).add(text)
        return Below(os.path.relpath(path, self.root))

    def _output_of(self, path: str) -> str | None:
        return next((output for output in self.outputs if is_in(path, output)), None)

    def _add_output(
        self, entry: Entry, words: list[list[tuple[Part, ...]]], missing: Sequence[str]
    ) -> bool:
        """Say where to write in a line that has left it to a configuration, where it is clear
        how: one thing by one line with --output."""
        if len(words) != 1 or len(missing) != 1 or "--output" in entry.plain[0]:
            return False
        command, _ = command_of(entry.plain[0])
        if not any("--output" in param.opts for param in command.params):
            return False
        path = missing[0]
        words[0] += [("--output",), (Below(self.outputs[path]),)]
        self.spelt.setdefault(path, set()).add(os.path.relpath(path, entry.folder))
        return True


def _left_out(entry: Entry, line: PlainLine, why: str) -> Step:
    return Step(entry.number, line, tuple((word,) for word in line), entry.folder, left_out=why)
