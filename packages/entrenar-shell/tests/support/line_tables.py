"""Tables of cases as text: `line ⇒ what it must give`, one a row; a row without ⇒ is a heading, and
one with nothing before it goes on with the row above.

What cannot be seen or would be lost has a sign: ␠ a blank at the end of something, ⍽ one that does
not break, ⇥ a tab, ⏎ a line feed, ␍ a carriage return, ␀ NUL, ␛ escape, ∅ an empty word, ‸ the
cursor.
"""

from __future__ import annotations

import re

SIGNS = {"␠": " ", "⇥": "\t", "⏎": "\n", "␍": "\r", "␀": "\0", "␛": "\x1b", "⍽": "\xa0"}


def rows(table: str) -> list[tuple[str, str]]:
    """The rows of a table: the line with its signs replaced, and what stands to the right."""
    cells = (row.partition("⇒") for row in re.sub(r"\n +⇒", "", table).splitlines())
    return [(_unsigned(line.strip()), right.strip()) for line, arrow, right in cells if arrow]


def _unsigned(text: str) -> str:
    for sign, char in SIGNS.items():
        text = text.replace(sign, char)
    return text


def signed(text: str) -> str:
    """A text as a cell shows it: blanks have a sign only at its ends."""
    inner = text.strip(" ")
    before, after = text.partition(inner)[::2] if inner else (text, "")
    for sign, char in SIGNS.items():
        inner = inner if char == " " else inner.replace(char, sign)
    return "␠" * len(before) + inner + "␠" * len(after) or "∅"


def at_cursor(line: str) -> tuple[str, int]:
    """A line without its cursor, and where that stood: at the end where there is none."""
    cursor = line.find("‸")
    return line.replace("‸", ""), cursor if cursor >= 0 else len(line)
