"""Text that is safe to show, and the nearest valid name to a misspelt one (pure)."""

import unicodedata
from collections.abc import Iterable

__all__ = ["escape_controls", "nearest"]

_SHORT = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}

# Cc moves the cursor or starts an escape sequence, Cf holds the bidi marks and the invisible
# letters, Zl and Zp break lines, and Cs (half a surrogate pair, how Python holds a file name that
# is not UTF-8) cannot be printed at all.
_ESCAPED = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def escape_controls(text: str) -> str:
    r"""`text` on one line, with everything that would steer a terminal or hide shown escaped.

    Escaped are control and format characters (bidi marks, zero-width ones), line breaks and lone
    surrogates; letters of every script, and the backslash, stay as they are.

    >>> print(escape_controls("weights\x1b[2J\n.bin"))
    weights\x1b[2J\n.bin
    """
    if text.isprintable():  # every category in _ESCAPED is unprintable to Python
        return text
    return "".join(
        _escape(char) if unicodedata.category(char) in _ESCAPED else char for char in text
    )


def _escape(char: str) -> str:
    point = ord(char)
    if char in _SHORT:
        return _SHORT[char]
    if point <= 0xFF:
        return f"\\x{point:02x}"
    return f"\\u{point:04x}" if point <= 0xFFFF else f"\\U{point:08x}"


def nearest(name: str, names: Iterable[str]) -> str | None:
    """The one of `names` most like `name`, letter case aside; None when none is like it.

    >>> nearest("temprature", ["alpha", "temperature"])
    'temperature'
    """
    import difflib  # an error's alone: every program would wait for it

    spelling = {known.casefold(): known for known in names}
    found = difflib.get_close_matches(name.casefold(), spelling, n=1)
    return spelling[found[0]] if found else None
