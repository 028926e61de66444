"""Where the cursor stands in a line: in which word, of what, after which others."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Literal

from entrenar_shell.quoting import Open
from entrenar_shell.tokens import Token, tokens

__all__ = ["Place", "place"]

Role = Literal["word", "file", "program", "system", "comment", "end"]


@dataclass(frozen=True)
class Place:
    """The word that is typed at the cursor: it begins at `start`, reads `typed` up to the cursor,
    and the quote `mark` is open in it. `words` are those of the command before it.

    Its `role` is "word" in a command, "file" after > and >>; for the system's shell, "program" is
    the first word and "system" a later one; "comment"; or "end" where nothing can follow.
    """

    role: Role
    start: int
    typed: str = ""
    mark: Open = ""
    words: tuple[str, ...] = ()


def place(text: str, cursor: int) -> Place:
    """The place of the cursor, an offset in the line; what is after it does not count.

    >>> place("load './my mod", 14)
    Place(role='word', start=5, typed='./my mod', mark="'", words=('load',))
    """
    before = text[:cursor]
    found = tokens(before + "\n")  # this break is taken for the line's own, and no other
    system = next((token for token in found if token.kind == "operator"), None)
    if system is not None and system.text in {"!", "|"}:
        return _in_system(before, system.end)
    if found and found[-1].kind == "comment":
        return Place("comment", cursor)
    if found and found[-1].kind == "word" and (found[-1].end == cursor or found[-1].open):
        return _at(found[:-1], found[-1])
    return _at(found, Token("word", "", cursor, cursor))


def _at(before: list[Token], word: Token) -> Place:
    words = tuple(token.text for token in takewhile(lambda token: token.kind == "word", before))
    after = before[len(words) :]
    role: Role = "word"
    if after:
        role = "file" if len(after) == 1 and after[0].text in {">", ">>"} else "end"
    return Place(role, word.start, word.text, word.open, words)


def _in_system(before: str, start: int) -> Place:
    """The place in what is for the system's shell, which reads words nearly as we do."""
    inner = place(before[start:], len(before) - start)
    role = inner.role
    if role != "comment":
        role = "system" if inner.words or role != "word" else "program"
    return replace(inner, role=role, start=start + inner.start)
