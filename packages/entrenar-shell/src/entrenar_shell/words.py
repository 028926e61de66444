r"""A line of the shell, taken apart: words, and what is to be done with the command they form.

    load ./teacher as t          words; 'quotes' and "quotes" keep spaces, a backslash one character
    inspect layers t | less      a program of the system reads what is printed
    models > models.txt          a file gets it; >> adds to it
    distill --yes &              a job in the background
    distill ?                    the help of a command
    !ls -l                       a line for the system's own shell
    # a comment

The grammar:

    line      = [ words [ "?" | "|" system | ( ">" | ">>" ) word | "&" ] ] [ comment ]
              | "!" system
    words     = word { blank word }
    comment   = "#" ..., where a word could begin: in file#1 it is text
    system    = the rest of the line as it is, at least one character
    blank     = spaces and tabs, and a backslash before a line break

`quoting.py` says what a word is. Of the characters | > & the first that is not quoted ends the
words, with blanks around it or not; a `?` is no word only where it is the last and stands alone,
a `!` only where it is the first. Everything else is text: = ; < * ~ $ { and every letter. A line
break ends the line, except in quotes, where it is text. Control characters other than tab and line
break are refused.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from itertools import takewhile
from typing import Literal

from entrenar_shell.mistakes import IncompleteLine, asks_for_help, mistake
from entrenar_shell.quoting import join, quote
from entrenar_shell.tokens import Token, tokens

__all__ = [
    "IncompleteLine",
    "Line",
    "Piece",
    "PieceKind",
    "Word",
    "is_option",
    "join",
    "parse",
    "pieces",
    "quote",
]


@dataclass(frozen=True)
class Word:
    """One word without its quotes and backslashes, and where it stands in the line: from `start`
    up to, not including, `end`. A `quoted` word is never an operator or the name of a model."""

    text: str
    start: int
    end: int
    quoted: bool = False


@dataclass(frozen=True)
class Line:
    """What a line says. At most one of `pipe`, `file` and `background` is there, and with `system`
    or `help` none."""

    words: tuple[Word, ...] = ()
    background: bool = False
    pipe: str | None = None
    file: str | None = None
    append: bool = False
    system: str | None = None
    help: bool = False

    @property
    def texts(self) -> list[str]:
        """The words alone."""
        return [word.text for word in self.words]


PieceKind = Literal["command", "option", "value", "string", "operator", "comment", "error"]


@dataclass(frozen=True)
class Piece:
    """A stretch of a line from `start` up to `end`, and what it is there: for colour. Between two
    pieces there are only blanks."""

    start: int
    end: int
    kind: PieceKind


def parse(text: str) -> Line:
    """Take a line apart, with or without the line break at its end.

    Raises IncompleteLine where it goes on in the next line, and UsageError, with the column and
    what to write instead, where it is no line of the grammar above.

    >>> parse("inspect layers 'my model' | less").texts
    ['inspect', 'layers', 'my model']
    """
    found = tokens(text)
    wrong = mistake(text, found)
    if wrong:
        raise wrong.error
    return _line([token for token in found if token.kind != "comment"])


def _line(found: list[Token]) -> Line:
    """The line of pieces with which nothing is wrong."""
    if found and found[0].kind == "operator":
        return Line(system=found[1].text)
    words = tuple(
        Word(token.text, token.start, token.end, token.quoted)
        for token in takewhile(lambda token: token.kind == "word", found)
    )
    rest = found[len(words) :]
    if words and asks_for_help(found[-1]) and not rest:
        return Line(words[:-1], help=True)
    if not rest:
        return Line(words)
    operator, operand = rest[0].text, rest[1].text if len(rest) > 1 else None
    if operator == "|":
        return Line(words, pipe=operand)
    if operator == "&":
        return Line(words, background=True)
    return Line(words, file=operand, append=operator == ">>")


def pieces(text: str, *, commands: Collection[tuple[str, ...]] = ()) -> tuple[Piece, ...]:
    """What each stretch of a line is, of any text at all; never raises.

    The first word is the command; with the paths of all `commands` the second one is, too, where
    these have it, and a first word that begins none is an error. From a mistake on everything is
    an error. An open quote is a string, not a mistake: it is being typed.

    >>> [piece.kind for piece in pieces("inspect layers --json | less")]
    ['command', 'value', 'option', 'operator', 'value']
    """
    found = tokens(text)
    wrong = mistake(text, found)
    limit = len(text) if wrong is None or isinstance(wrong.error, IncompleteLine) else wrong.at
    return tuple(
        Piece(token.start, token.end, "error" if token.end > limit else kind)
        for token, kind in zip(found, _kinds(found, commands), strict=True)
    )


def _kinds(found: list[Token], commands: Collection[tuple[str, ...]]) -> list[PieceKind]:
    """What each piece is, mistakes aside."""
    kinds: list[PieceKind] = []
    path: tuple[str, ...] | None = ()  # of the command as far as it can be one
    options = True
    said = [token for token in found if token.kind != "comment"]
    help_mark = said[-1] if all(token.kind == "word" for token in said) and said else None
    for token in found:
        if token.kind != "word" or (token is help_mark and asks_for_help(token)):
            kinds.append(_OTHERS.get(token.kind, "operator"))
            path = None
            continue
        path = _longer(path, token.text, commands)
        if path is not None:
            known = len(path) == 2 or not commands or any(c[:1] == path for c in commands)
            kinds.append("command" if known or token.open else "error")
        elif options and is_option(token.text):
            kinds.append("option")
            options = token.text != "--"
        else:
            kinds.append("string" if token.quoted else "value")
    return kinds


def _longer(
    path: tuple[str, ...] | None, word: str, commands: Collection[tuple[str, ...]]
) -> tuple[str, ...] | None:
    """The path of a command with one word more, None where that belongs to none."""
    if path is None:
        return None
    return (*path, word) if not path or (*path, word) in commands else None


_OTHERS: dict[str, PieceKind] = {"comment": "comment", "system": "value"}


def is_option(text: str) -> bool:
    """Whether a word is an option: it begins with a hyphen, and is neither one nor a number."""
    return len(text) > 1 and text[0] == "-" and not (text[1].isdigit() or text[1] == ".")
