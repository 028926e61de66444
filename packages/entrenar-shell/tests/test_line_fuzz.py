"""Any text at all is a line or a UsageError; and the words are those of a POSIX shell where the two
agree. ENTRENAR_EXAMPLES sets the number of lines: a million take some minutes."""

from __future__ import annotations

import itertools
import os
import random
import re
import shlex

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import line_maker
from entrenar_common.errors import UsageError
from entrenar_common.text import escape_controls
from entrenar_shell.complete import complete
from entrenar_shell.hint import hint
from entrenar_shell.words import IncompleteLine, Line, join, parse, pieces, quote
from plain_world import COMMANDS, WORLD

LINES = int(os.environ.get("ENTRENAR_EXAMPLES", "20000"))

texts = st.one_of(
    st.text(max_size=30),
    st.lists(st.sampled_from(line_maker.WORDS + line_maker.MARKS), max_size=12).map("".join),
)
writable = st.text(
    st.one_of(st.sampled_from("\n\t '\"\\|>&?!#~a"), st.characters(exclude_categories=["Cc"])),
    max_size=12,
)


def parsed(text: str) -> Line | UsageError:
    """What a text is: a line, or what is wrong with it; anything else that is raised is a bug."""
    try:
        return parse(text)
    except UsageError as error:
        return error


def check(text: str) -> Line | UsageError:
    """What holds for every text: it is a line or an error with a hint, and its pieces agree."""
    line, found = parsed(text), pieces(text)
    spans = [(piece.start, piece.end) for piece in found]
    assert all(a < b for a, b in spans)
    assert all(b <= c for (_, b), (c, _) in itertools.pairwise(spans))
    if isinstance(line, Line):
        assert "error" not in {piece.kind for piece in found}
        assert {(word.start, word.end) for word in line.words} <= set(spans)
        assert sum(piece.kind in WORD_KINDS for piece in found) == len(line.words) + _operands(line)
    else:
        assert line.hint
        assert is_safe(line.report().replace("\n", ""))
        assert ("error" in {piece.kind for piece in found}) != isinstance(line, IncompleteLine)
    return line


def is_safe(text: str) -> bool:
    """Whether a terminal shows a text as what it is."""
    return text == escape_controls(text)


WORD_KINDS = {"command", "option", "value", "string"}


def _operands(line: Line) -> int:
    return sum(operand is not None for operand in (line.pipe, line.file, line.system))


@pytest.mark.tier2
@given(texts)
@settings(deadline=None, max_examples=200)
def test_any_text_is_a_line_or_a_usage_error(text: str) -> None:
    check(text)


@pytest.mark.tier2
@given(texts, st.integers(0, 30))
@settings(deadline=None, max_examples=200)
def test_any_text_has_completions_and_a_hint_that_fits(text: str, cursor: int) -> None:
    cursor = min(cursor, len(text))
    assert all(found.start <= cursor for found in complete(text, cursor, WORLD))
    assert is_safe(hint(text, cursor, WORLD, columns=40))


@pytest.mark.tier2
@given(st.lists(writable, min_size=1, max_size=5))
@settings(deadline=None, max_examples=300)
def test_words_written_as_a_line_are_read_as_the_same(words: list[str]) -> None:
    assert parse(join(words)).texts == words
    assert all(parse(quote(word)).texts == [word] for word in words)


@pytest.mark.tier2
def test_many_lines_of_marks_and_words_are_lines_or_usage_errors() -> None:
    rng = random.Random(11)
    kinds = {Line: 0, IncompleteLine: 0, UsageError: 0}
    for _ in range(LINES):
        text = line_maker.line(rng)
        try:
            kinds[type(check(text))] += 1
        except Exception as error:
            error.add_note(f"the line: {text!r}")
            raise
    assert min(kinds.values()) > LINES / 50  # else the test tests little


@pytest.mark.tier2
def test_many_lines_have_completions_and_a_hint_at_any_cursor() -> None:
    rng = random.Random(12)
    for _ in range(LINES // 10):
        text = line_maker.line(rng)
        cursor = rng.randrange(len(text) + 1)
        try:
            for found in complete(text, cursor, WORLD):
                assert 0 <= found.start <= cursor
                assert is_safe(found.shown)
            assert is_safe(hint(text, cursor, WORLD, columns=60))
        except Exception as error:
            error.add_note(f"the line: {text!r}, the cursor at {cursor}")
            raise


def of_a_shell(text: str) -> list[str] | None:
    """The words of a POSIX shell by shlex; None where a quote is open."""
    reader = shlex.shlex(text, posix=True, punctuation_chars="")
    reader.whitespace, reader.whitespace_split, reader.commenters = " \t\n", True, ""
    try:
        return list(reader)
    except ValueError:
        return None


NOT_SHARED = re.compile(r"[|>&#\r\n\0\x1b\x85]|^[ \t]*!|(^|[ \t])\?[ \t]*$")
"""Operators, comments and controls are the shell's own; shlex takes a line break after a backslash
for a character."""


@pytest.mark.tier2
def test_words_are_those_that_shlex_finds() -> None:
    rng = random.Random(13)
    compared = incomplete = 0
    while compared < 3000:
        text = line_maker.line(rng)
        if NOT_SHARED.search(text):
            continue
        line = parsed(text)
        if isinstance(line, IncompleteLine):
            assert of_a_shell(text) is None, text
            incomplete += 1
        else:
            assert isinstance(line, Line), text
            assert line.texts == of_a_shell(text), text
        compared += 1
    assert incomplete > 100


@pytest.mark.tier2
@given(st.lists(st.sampled_from(["a", "b c", "#", "'", '"', "\\", "é"]), max_size=8).map("".join))
@settings(deadline=None, max_examples=300)
def test_a_comment_after_a_line_changes_nothing(text: str) -> None:
    line = parsed(text)
    if not isinstance(line, IncompleteLine):
        assert parsed(f"{text} # {text}") == line


def test_the_commands_of_the_tables_are_all_found() -> None:
    for path in COMMANDS:
        assert complete(" ".join(path)[:-1], len(" ".join(path)) - 1, WORLD)
