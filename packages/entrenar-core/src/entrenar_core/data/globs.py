"""Globs as regular expressions."""

import functools
import re

from entrenar_common.errors import ConfigError


@functools.cache
def translate_glob(pattern: str) -> re.Pattern[str]:
    """A glob as a regular expression: `*`, `?` and `[...]` inside a name, `**` across folders.

    Raises ConfigError for what is no glob.
    """
    pieces = re.split(r"(\*\*/|/\*\*$|\*+|\?|\[!?\]?[^\]]*\])", pattern)
    try:
        return re.compile("".join(map(_translate_piece, pieces)), re.DOTALL)
    except re.error as error:
        raise ConfigError(
            f"{pattern!a} is not a valid glob: {error}", hint="check its brackets"
        ) from error


def _translate_piece(piece: str) -> str:
    if piece == "**/":
        return "(?:[^/]+/)*"
    if piece == "/**":
        return "(?:/.*)?"
    if piece.startswith("*"):
        return ".*" if piece == "**" else "[^/]*"
    if piece == "?":
        return "[^/]"
    if piece.startswith("[") and piece.endswith("]") and len(piece) > 2:
        negate = "^/" if piece[1] == "!" else ""
        inside = re.sub(r"([\\\[\]^&~|])", r"\\\1", piece[2 if negate else 1 : -1])
        return f"(?!/)[{negate}{inside}]"
    return re.escape(piece)
