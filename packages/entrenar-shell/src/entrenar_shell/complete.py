"""What a word of a line can become: the completions at the cursor, in the order of a menu."""

from __future__ import annotations

from dataclasses import dataclass

from entrenar_common.errors import UsageError
from entrenar_common.text import escape_controls
from entrenar_shell import candidates
from entrenar_shell.call import Call, call, find
from entrenar_shell.matching import Match, best
from entrenar_shell.place import Place, place
from entrenar_shell.quoting import quote, quote_with
from entrenar_shell.world import World

__all__ = ["Completion", "complete"]


@dataclass(frozen=True)
class Completion:
    """`text` takes the place of what is in the line from `start` up to the cursor; a menu shows
    `shown`, and `note` beside it."""

    text: str
    start: int
    shown: str
    note: str = ""


def complete(text: str, cursor: int, world: World) -> list[Completion]:
    """The completions of the word at the cursor, an offset in the line, 100 at most: first those
    that begin with what was typed, then those that hold it."""
    here = place(text, cursor)
    attached, found = _matches(here, world)
    closed = bool(here.mark) and text[cursor : cursor + 1] == here.mark
    written = ((match, _written(attached, match, here, closed)) for match in best(found))
    return [
        Completion(line, here.start, escape_controls(match.shown or match.text), match.note)
        for match, line in written
        if line is not None
    ]


def _matches(here: Place, world: World) -> tuple[str, list[Match]]:
    """The start of the word that stays as it is, and what can follow it."""
    if here.role in {"file", "system"}:
        return "", candidates.files(world, here.typed)
    if here.role != "word":
        return "", []
    following = candidates.commands(world, here.words, here.typed)
    found = find(world.commands, here.words)
    if found is None:
        return "", following
    command, words = found
    attached, matches = _of_command(call(command, words), here.typed, world)
    return (attached, matches) if words else (attached, [*following, *matches])


def _of_command(made: Call, typed: str, world: World) -> tuple[str, list[Match]]:
    """The same of a word after a command's own."""
    slot = made.slot(typed)
    if slot is None:
        return "", candidates.options(made, typed)
    found = candidates.values(world, made, slot, typed[len(slot.attached) :])
    if not found and not typed and not slot.parameter.required and made.awaits is None:
        return "", candidates.options(made, "")
    return slot.attached, found


def _written(attached: str, match: Match, here: Place, closed: bool) -> str | None:
    """A match as it is written in the line; None where it cannot be.

    A quote that was opened stays the same one. It is not closed where the word goes on, nor where
    it is `closed` after the cursor.
    """
    in_quotes = here.mark in ("'", '"')
    try:
        word = quote_with(match.text, here.mark) if in_quotes else quote(match.text)
    except UsageError:
        return None
    quoted = word != match.text
    if (quoted and match.bare) or (closed and word[-1] != here.mark):
        return None
    return attached + (word[:-1] if quoted and (match.goes_on or closed) else word)
