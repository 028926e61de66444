r"""How one word is written: its quotes and backslashes, read and put there.

    'single'    everything up to the next ' as it is
    "double"    the same up to the next ", but \" is a quote and \\ a backslash
    \x          the character x as it is

These may follow one another within a word: --name="two words". A backslash before a line break,
not in single quotes, joins the two lines. CR LF is one line break.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from entrenar_common.errors import UsageError
from entrenar_common.text import escape_controls

__all__ = ["Open", "Reading", "join", "quote", "quote_with", "read"]

Open = Literal["", "'", '"', "\\"]

_PART = re.compile(
    r"""(?P<plain> [^\ \t\r\n\\'"|>&]+ | \r(?!\n) )
      | ' (?P<single> [^']* ) (?P<end_single> '? )
      | " (?P<double> [^"\\]* (?: \\. [^"\\]* )* \\? ) (?P<end_double> "? )
      | \\ (?P<escaped> \r\n | . | \Z )""",
    re.VERBOSE | re.DOTALL,
)
_IN_DOUBLE = re.compile(r'\\(\r\n|["\\\n])')
_PLAIN = re.compile(r"(?![#!])[^\s\\'\"|>&?\x00-\x1f\x7f-\x9f]+")
_UNWRITABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_BREAKS = ("\n", "\r\n")


@dataclass(frozen=True)
class Reading:
    """What was read of a word up to `end`: its text, whether any of it was quoted, and what is
    still `open` at the end of the line: a quote, a backslash, or nothing."""

    text: str
    end: int
    quoted: bool
    open: Open


def read(text: str, start: int) -> Reading:
    """Read the word that begins at `start`, which is neither blank nor an operator."""
    parts: list[str] = []
    quoted, at = False, start
    unclosed: Open = ""
    while not unclosed and (part := _PART.match(text, at)):
        value, unclosed = _meant(part)
        parts.append(value)
        quoted = quoted or (part["plain"] is None and part["escaped"] not in _BREAKS)
        at = part.end()
    return Reading("".join(parts), at, quoted, unclosed)


def _meant(part: re.Match[str]) -> tuple[str, Open]:
    """The text that a part stands for, and what of it is open."""
    if part["plain"] is not None:
        return part["plain"], ""
    if part["single"] is not None:
        return part["single"].replace("\r\n", "\n"), "" if part["end_single"] else "'"
    if part["double"] is not None:
        text = _IN_DOUBLE.sub(lambda found: _escaped(found[1]), part["double"])
        return text.replace("\r\n", "\n"), "" if part["end_double"] else '"'
    return _escaped(part["escaped"]), "" if part["escaped"] else "\\"


def _escaped(char: str) -> str:
    return "" if char in _BREAKS else char


def quote(text: str) -> str:
    r"""Write `text` as one word, in quotes where it needs them: `parse` reads it as the same.

    Raises UsageError for a control character other than tab and line feed, which no line may hold.

    >>> print(quote("model.bin"), quote("two words"), quote("it's"))
    model.bin 'two words' "it's"
    """
    return text if _PLAIN.fullmatch(text) else quote_with(text, "'")


def quote_with(text: str, mark: str) -> str:
    """Write `text` as one word in quotes, `mark` (' or ") where it can stand in these; raises like
    `quote`.

    >>> print(quote_with("model.bin", '"'))
    "model.bin"
    """
    bad = _UNWRITABLE.search(text)
    if bad:
        raise UsageError(
            f"'{escape_controls(text)}' holds the control character {escape_controls(bad[0])}, "
            "and a line of the shell cannot",
            hint="rename it, or call the entrenar tool itself",
        )
    if mark == "'" and "'" not in text:
        return f"'{text}'"
    return '"' + re.sub(r'(["\\])', r"\\\1", text) + '"'


def join(words: Iterable[str]) -> str:
    """Write words as a line, which `parse` takes apart into the same; raises like `quote`."""
    return " ".join(quote(word) for word in words)
