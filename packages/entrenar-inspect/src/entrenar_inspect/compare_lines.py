"""The tensors that two models do not have in common, in as few lines as tell it."""

from collections.abc import Iterable, Sequence
from itertools import groupby

from entrenar_inspect.tensor_pairs import (
    ADDED,
    REMOVED,
    RESHAPED,
    RETYPED,
    Stored,
    TensorPair,
    module_of,
)

PATTERNS = 6
"""Tensors of more names than this (numbers aside) that have changed alike are one line."""

MODULES = 4
"""Kinds of modules that such a line names."""

WORDS = {ADDED: ("+", "new"), REMOVED: ("-", "removed")}


def lines_of(pairs: Sequence[TensorPair], *, each: bool) -> list[tuple[str, str]]:
    """Signs (+, -, ~) and what has become of tensors; `each`: a line for each of them."""
    found: list[tuple[str, str]] = []
    for change in (REMOVED, ADDED):
        sign = WORDS[change][0]
        alone = [pair for pair in pairs if pair.change == change]
        if each:
            found += [(sign, f"{_own_name(pair)}  {_stored(pair)}") for pair in alone]
        else:
            found += [(sign, text) for text in _collapsed(alone, pairs, change)]
    changed = [(pair, _changes(pair)) for pair in pairs]
    altered = [(pair, text) for pair, text in changed if text]
    if each:
        return found + [("~", f"{pair.name}: {text}") for pair, text in altered]
    return found + [("~", text) for text in _alike(altered, sum(map(_in_both, pairs)))]


def _own_name(pair: TensorPair) -> str:
    return pair.name_in_b or pair.name if pair.a is None else pair.name_in_a or pair.name


def _stored(pair: TensorPair) -> str:
    kept = pair.a or pair.b
    assert kept is not None
    return _described(kept)


def _described(kept: Stored) -> str:
    return f"{kept.dtype} [{', '.join(map(str, kept.shape))}]"


def _in_both(pair: TensorPair) -> bool:
    return pair.a is not None and pair.b is not None


def _changes(pair: TensorPair) -> str:
    """What is not the same in headers, such as "BF16 → F32"; empty for what is."""
    if pair.a is None or pair.b is None or pair.change not in (RESHAPED, RETYPED):
        return ""
    shapes = "" if pair.a.shape == pair.b.shape else (
        f"shape [{', '.join(map(str, pair.a.shape))}] → [{', '.join(map(str, pair.b.shape))}]"
    )  # fmt: skip
    types = "" if pair.a.dtype == pair.b.dtype else f"{pair.a.dtype} → {pair.b.dtype}"
    return ", ".join(filter(None, (shapes, types)))


# --- what one side has alone ---------------------------------------------------------------------


def _collapsed(alone: Sequence[TensorPair], pairs: Sequence[TensorPair], change: str) -> list[str]:
    """Whole modules, numbered ones that follow each other, and names that differ in a number."""
    kept = {prefix for p in pairs if p.change != change for prefix in _prefixes(p.name)}
    modules: dict[str, list[TensorPair]] = {}
    for pair in alone:
        modules.setdefault(_module_alone(pair.name, kept), []).append(pair)
    lines = []
    for _, group in groupby(modules, key=lambda name: (_family(name), len(modules[name]))):
        names = list(group)
        for run in _runs(names):
            tensors = [pair for name in run for pair in modules[name]]
            lines.append(_line(run, tensors, WORDS[change][1]))
    return lines


def _prefixes(name: str) -> Iterable[str]:
    parts = name.split(".")
    return (".".join(parts[:depth]) for depth in range(1, len(parts) + 1))


def _module_alone(name: str, kept: set[str]) -> str:
    """The outermost module of a tensor that has nothing of the other side."""
    return next(prefix for prefix in _prefixes(name) if prefix not in kept)


def _family(name: str) -> str:
    """A name with its numbers left out."""
    return ".".join("*" if part.isdigit() else part for part in name.split("."))


def _runs(names: list[str]) -> list[list[str]]:
    """Names of one family: numbered modules in runs of numbers, all others together."""
    if not names[0].rpartition(".")[2].isdigit():
        return [names]
    runs: list[list[str]] = []
    for name in sorted(names, key=_number):
        follows = runs and _number(name) == _number(runs[-1][-1]) + 1
        follows = follows and name.rpartition(".")[0] == runs[-1][-1].rpartition(".")[0]
        if follows:
            runs[-1].append(name)
        else:
            runs.append([name])
    return runs


def _number(name: str) -> int:
    return int(name.rpartition(".")[2])


def _line(run: list[str], tensors: list[TensorPair], word: str) -> str:
    first = run[0]
    if len(tensors) == 1:
        return f"{_own_name(tensors[0])}  {_stored(tensors[0])}"
    many = f"{len(tensors)} tensors"
    if not first.rpartition(".")[2].isdigit():
        name = first if len(run) == 1 else _family(first)
        shown = name if len(run) == len(tensors) and first == tensors[0].name else f"{name}.*"
        return f"{shown} ({many})" if word == "new" else f"{shown} ({word}, {many})"
    layers = f"{word} layer" if len(run) == 1 else f"{len(run)} {word} layers"
    numbers = first if len(run) == 1 else f"{first}–{_number(run[-1])}"
    return f"{numbers}.* ({many}, {layers})"


# --- what both sides have otherwise ---------------------------------------------------------------


def _alike(altered: Sequence[tuple[TensorPair, str]], in_both: int) -> list[str]:
    """One line for each change and name, or for each change where it has many names."""
    by_change: dict[str, list[TensorPair]] = {}
    for pair, text in altered:
        by_change.setdefault(text, []).append(pair)
    lines = []
    for text, changed in by_change.items():
        families: dict[str, list[TensorPair]] = {}
        for pair in changed:
            families.setdefault(_family(pair.name), []).append(pair)
        if len(families) > PATTERNS:
            lines.append(f"{_many(changed, in_both)}: {text}")
            continue
        for family, members in families.items():
            alone = len(members) == 1
            name = members[0].name if alone else f"{family} ({len(members)} tensors)"
            lines.append(f"{name}: {text}")
    return lines


def _many(changed: Sequence[TensorPair], in_both: int) -> str:
    if len(changed) == in_both:
        return f"all {in_both} tensors"
    modules = list(dict.fromkeys(module_of(pair.name) for pair in changed))
    shown = ", ".join(modules[:MODULES]) + (", …" if len(modules) > MODULES else "")
    return f"{len(changed)} tensors ({shown})"
