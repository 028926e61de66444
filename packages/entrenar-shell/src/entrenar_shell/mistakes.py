"""What makes a text no line of the shell: the first mistake in it, where it is, what to do."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import takewhile

from entrenar_common.errors import UsageError
from entrenar_common.text import escape_controls
from entrenar_shell.tokens import Token

__all__ = ["IncompleteLine", "Mistake", "asks_for_help", "column", "mistake"]

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]|\r(?!\n|\Z)")


class IncompleteLine(UsageError):
    """When a quote is open or the line ends in a backslash: it goes on in the next."""


@dataclass(frozen=True)
class Mistake:
    """A mistake and the offset from which the text makes no sense because of it."""

    at: int
    error: UsageError


def column(text: str, at: int) -> str:
    """Where the offset `at` is, for a person: columns count from 1, and lines, where there are
    several."""
    lines = text.count("\n", 0, at)
    place = f"column {at - (text.rfind(chr(10), 0, at) + 1) + 1}"
    return f"line {lines + 1}, {place}" if lines else place


def asks_for_help(token: Token) -> bool:
    """Whether it is the `?` that asks for help where it is the last word of a line."""
    return token.kind == "word" and token.text == "?" and not token.quoted


def mistake(text: str, found: Sequence[Token]) -> Mistake | None:
    """The first mistake in a text that `tokens` took to the pieces `found`; None for a line."""
    control = _CONTROL.search(text)
    if control:
        return _mistake(
            control.start(),
            f"the control character {escape_controls(control[0])} is at "
            f"{column(text, control.start())}",
            hint="leave it out: a line holds text, spaces and tabs",
        )
    second = next((token.second for token in found if token.second is not None), None)
    if second is not None:
        return _mistake(
            second,
            f"a second line begins at {column(text, second)}",
            hint="give one command at a time; a line that goes on in the next ends in a backslash",
        )
    if found and found[-1].open:
        return Mistake(found[-1].start, _incomplete(text, found[-1]))
    return _mistaken_operator(text, [token for token in found if token.kind != "comment"])


def _mistake(at: int, message: str, *, hint: str) -> Mistake:
    return Mistake(at, UsageError(message, hint=hint))


def _incomplete(text: str, last: Token) -> IncompleteLine:
    if last.open == "\\":
        return IncompleteLine(
            f"the line ends in a backslash, at {column(text, last.end - 1)}",
            hint="go on in the next line; a backslash itself is written \\\\",
        )
    return IncompleteLine(
        f"a quote {last.open} is open at the end, in what begins at {column(text, last.start)}",
        hint=f"close it with {last.open}; the character itself is written \\{last.open}",
    )


def _mistaken_operator(text: str, found: Sequence[Token]) -> Mistake | None:
    words = list(takewhile(lambda token: token.kind == "word", found))
    if len(words) == len(found):
        return None
    operator, after = found[len(words)], found[len(words) + 1 :]
    place = f"{operator.text} at {column(text, operator.start)}"
    if operator.text != "!" and not words:
        return _mistake(
            operator.start,
            f"no command is before {place}",
            hint=f"write one there; as a word it is quoted: '{operator.text}'",
        )
    if words and asks_for_help(words[-1]):
        return _mistake(
            operator.start,
            f"a command's help is asked for by ?, and {place} follows",
            hint="end the line after the ?; as a word it is quoted: '?'",
        )
    return _OPERATORS[operator.text](place, [*words, operator], after)


def _without_system(place: str, before: Sequence[Token], after: Sequence[Token]) -> Mistake | None:
    """The mistake where nothing is left for the system's shell."""
    if after:
        return None
    return _mistake(
        before[-1].start,
        f"no command of the system is after {place}",
        hint=f"write one there; as a word it is quoted: '{before[-1].text}'",
    )


def _mistaken_pipe(place: str, before: Sequence[Token], after: Sequence[Token]) -> Mistake | None:
    if not after:
        return _without_system(place, before, after)
    program = after[0]
    if program.text.startswith("|"):
        return _mistake(
            before[-1].start,
            f"|| is what {place} would begin, and lines are not joined by a condition",
            hint="write the second command in a line of its own",
        )
    if program.text.endswith("&") and not program.text.endswith("\\&"):
        return _mistake(
            program.end - 1,
            f"a command in the background is not read by the program after {place}",
            hint="leave out the & or the pipe: what a job prints is kept in its log",
        )
    return None


def _mistaken_file(place: str, before: Sequence[Token], after: Sequence[Token]) -> Mistake | None:
    operator, word = before[-1], before[-2]
    if word.end == operator.start and word.text.isascii() and word.text.isdigit():
        return _mistake(
            word.start,
            f"{word.text} is directly before {place}: errors do not go to a file",
            hint="write a blank between them where it is a word",
        )
    if not after or after[0].kind != "word" or not after[0].text:
        return _mistake(
            operator.start,
            f"no file is after {place}",
            hint=f"name one there; as a word it is quoted: '{operator.text}'",
        )
    if len(after) == 1:
        return None
    what = f"{after[1].text} follows" if after[1].kind == "operator" else "a second word follows"
    return _mistake(
        after[1].start,
        f"one file is after {place}, and {escape_controls(what)}",
        hint="end the line after the file; a name with blanks or operators in it is quoted",
    )


def _mistaken_job(place: str, before: Sequence[Token], after: Sequence[Token]) -> Mistake | None:
    if not after:
        return None
    return _mistake(
        before[-1].start,
        f"{place} is not at the end of the line",
        hint="end the line after it, or quote it as a word: '&'",
    )


_OPERATORS: dict[str, Callable[[str, Sequence[Token], Sequence[Token]], Mistake | None]] = {
    "!": _without_system,
    "|": _mistaken_pipe,
    ">": _mistaken_file,
    ">>": _mistaken_file,
    "&": _mistaken_job,
}
