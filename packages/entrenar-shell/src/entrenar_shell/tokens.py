"""A line in pieces, not judged: words, operators, a comment, what is for the system's shell."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from entrenar_shell.quoting import Open, read

__all__ = ["Token", "tokens"]

_BLANKS = re.compile(r"(?:[ \t]|\\?\r?\n)*")
_JOINED = re.compile(r"\\\r?\n")
_ENDING = re.compile(r"(?:\r?\n|\r)?\Z")
_OPERATOR = re.compile(r">>|[|>&]")
_COMMENT = re.compile(r"#[^\n]*")


@dataclass(frozen=True)
class Token:
    """A piece from `start` up to `end`. The `text` of a word is without its quotes; `open` says
    what is open at its end, and `second` where in it, or before it, a second line begins, where
    none may."""

    kind: Literal["word", "operator", "system", "comment"]
    text: str
    start: int
    end: int
    quoted: bool = False
    open: Open = ""
    second: int | None = None


def tokens(text: str) -> list[Token]:
    """All pieces of a line, in order. What follows `!` at its beginning, or the first `|`, is one
    piece. The line's own line break at its end is no part of it.

    >>> [token.text for token in tokens("models > 'a file'  # all")]
    ['models', '>', 'a file', '# all']
    """
    ending = _ENDING.search(text)
    line = text[: ending.start()] if ending else text
    at = _after_blanks(line, 0)
    if line.startswith("!", at):
        return [Token("operator", "!", at, at + 1), *_system(line, at + 1)]
    found: list[Token] = []
    while at < len(line):
        found.append(_token(line, at, found[-1].end if found else at))
        if found[-1].kind == "operator" and found[-1].text == "|":
            return [*found, *_system(line, found[-1].end)]
        at = _after_blanks(line, found[-1].end)
    return found


def _after_blanks(line: str, at: int) -> int:
    blanks = _BLANKS.match(line, at)
    return blanks.end() if blanks else at


def _token(line: str, at: int, before: int) -> Token:
    """The piece at `at`; the one before it ended at `before`."""
    second = at if "\n" in _JOINED.sub("", line[before:at]) else None
    operator = _OPERATOR.match(line, at)
    if operator:
        return Token("operator", operator[0], at, operator.end(), second=second)
    comment = _COMMENT.match(line, at)
    if comment:
        return Token("comment", comment[0], at, comment.end(), second=second)
    word = read(line, at)
    return Token("word", word.text, at, word.end, word.quoted, word.open, second)


def _system(line: str, start: int) -> list[Token]:
    """The rest of the line as one piece, without the blanks around it; none where it is blank.

    Its quotes are those of the system's shell, so they too hold line breaks.
    """
    at = first = _after_blanks(line, start)
    inner: list[Token] = []
    while at < len(line):
        inner.append(_token(line, at, inner[-1].end if inner else at))
        at = _after_blanks(line, inner[-1].end)
    if all(token.kind == "comment" for token in inner):
        return inner
    end, text = inner[-1].end, line[first : inner[-1].end]
    second = next((token.second for token in inner if token.second is not None), None)
    return [Token("system", text, first, end, open=inner[-1].open, second=second)]
