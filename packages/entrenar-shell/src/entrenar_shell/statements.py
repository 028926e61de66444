"""Several lines that were typed or pasted at once, as the command lines they are (pure)."""

from __future__ import annotations

from dataclasses import dataclass

from entrenar_common.errors import UsageError
from entrenar_shell.words import IncompleteLine, parse

__all__ = ["Statement", "statement_at", "statements"]


@dataclass(frozen=True)
class Statement:
    """One command line with those that it goes on in. `start` is where it stands in the whole
    text, and an `open` one wants a further line."""

    text: str
    start: int
    open: bool = False


def statements(text: str) -> list[Statement]:
    """All command lines in a text, empty ones too: there is one at every place of the text.

    >>> [found.text for found in statements("models\\nload 'a\\nb' as t")]
    ['models', "load 'a\\nb' as t"]
    """
    found: list[Statement] = []
    start = at = 0
    lines: list[str] = []
    open_ = False
    for line in text.split("\n"):
        lines.append(line)
        at += len(line) + 1
        if not open_ or _may_close(lines):
            open_ = _is_open("\n".join(lines))
        if not open_:
            found.append(Statement("\n".join(lines), start))
            start, lines = at, []
    return [*found, Statement("\n".join(lines), start, open=True)] if open_ else found


def statement_at(text: str, cursor: int) -> tuple[Statement, int]:
    """The command line with the cursor in it, and where in it that is."""
    for found in reversed(statements(text)):
        if found.start <= cursor:
            return found, cursor - found.start
    raise AssertionError(f"no statement at {cursor}")


def _may_close(lines: list[str]) -> bool:
    """Whether the last line can end what the one before left open; without asking, a pasted book
    would be parsed once for each of its lines."""
    return any(quote in lines[-1] for quote in "'\"") or lines[-2].endswith("\\")


def _is_open(text: str) -> bool:
    try:
        parse(text)
    except IncompleteLine:
        return True
    except UsageError:  # told when it is run
        return False
    return False
