"""Text from anywhere as LaTeX that shows it and does nothing else."""

from __future__ import annotations

import re

from entrenar_common.text import escape_controls

__all__ = ["breakable", "latex_text"]

# Beside what has a meaning to TeX, what would become a ligature (-- `` ?`) or the optional
# argument of a command before it ([ *).
_COMMANDS = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#",
    "%": r"\%", "_": r"\_", "^": r"\textasciicircum{}", "~": r"\textasciitilde{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", '"': r"\textquotedbl{}",
    "`": r"\textasciigrave{}", "'": r"\textquotesingle{}", "-": "{-}", "[": "{[}", "]": "{]}",
    "*": "{*}", "!": "{!}", "?": "{?}", ",": "{,}",
    "–": r"\textendash{}", "−": "$-$", "×": r"$\times$", "±": r"$\pm$", "α": r"$\alpha$",
    "…": r"\dots{}", "≥": r"$\geq$", "≤": r"$\leq$", "·": r"$\cdot$", "→": r"$\rightarrow$",
    "²": r"\textsuperscript{2}", "µ": r"$\mu$", "\xa0": r"\nobreakspace{}",
}  # fmt: skip
_LONGEST = 24  # characters of a word that are not parted
_LONG = re.compile(rf"\S{{{_LONGEST + 1},}}")
_SIGN = r"(?:[,;:=/_-]|\.(?!\d))(?<=\S{8})"
_PIECE = re.compile(rf"\S{{0,{_LONGEST - 1}}}{_SIGN}(?=\S)|\S{{{_LONGEST}}}(?=\S)")


def latex_text(text: str) -> str:
    r"""`text` for a T1-encoded document; what has no letter there is shown by its code point.

    >>> print(latex_text("50 % of a_b \N{CJK UNIFIED IDEOGRAPH-4E2D}"))
    50 \% of a\_b {[}U+4E2D{]}
    """
    return "".join(map(_letter, escape_controls(text)))


def breakable(text: str) -> str:
    """As `latex_text`, with places where long words may be parted: behind a sign, if there is one
    in time."""
    parted = _LONG.sub(
        lambda m: _PIECE.sub(lambda piece: f"{piece[0]}\0", m[0]), text.replace("\0", r"\x00")
    )
    return r"\allowbreak{}".join(map(latex_text, parted.split("\0")))


def _letter(char: str) -> str:
    if char in _COMMANDS:
        return _COMMANDS[char]
    if char.isascii() or ("À" <= char <= "ÿ"):  # ÷ alone of these is no letter
        return r"$\div$" if char == "÷" else char
    return f"{{[}}U+{ord(char):04X}{{]}}"
