"""Lines for the fuzz tests: of what means something to the shell, most of them nearly right."""

from __future__ import annotations

import random

WORDS = [
    *("models", "inspect", "layers", "stats", "distill", "load", "as", "set", "help", "export"),
    *("t", "tiny", "_3", "org/name", "./my", "~/x", "C:\\x", "x#1", "a=b", "0.7", "gguf"),
    *("--alpha", "--set", "--type=q4", "-n", "-nq", "--", "-", "ünï", "🤗", "e\u0301"),
    *("\ud800", "\u202e"),  # half a character, as in a file name that is not UTF-8; right to left
]
MARKS = [
    *("'", '"', "\\", "\\'", '\\"', "''", '""', "|", ">", ">>", "&", "?", "!", "#"),
    *("=", ";", "<", "$", "*", " ", "  ", "\t", "\xa0", "\n", "\r\n", "\r", "\\\n", "\u2028"),
    *("\0", "\x1b", "\x85"),
]


def line(rng: random.Random) -> str:
    """Words with blanks between them, some in quotes, and up to three marks put in anywhere."""
    words = [_word(rng) for _ in range(rng.randrange(6))]
    text = " ".join(words)
    for _ in range(rng.choice((0, 0, 1, 1, 2, 3))):
        at = rng.randrange(len(text) + 1)
        text = text[:at] + rng.choice(MARKS) + text[at + rng.choice((0, 0, 1)) :]
    return text


def _word(rng: random.Random) -> str:
    word = rng.choice(WORDS) if rng.random() < 0.9 else rng.choice(MARKS)
    mark = rng.choice(("", "", "", "", "'", '"'))
    return f"{mark}{word}{mark}"
