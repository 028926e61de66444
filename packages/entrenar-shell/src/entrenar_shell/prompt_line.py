"""The colours of the line being typed, and the menu of what may complete it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import lru_cache
from typing import TYPE_CHECKING

from prompt_toolkit.completion import Completer, Completion
from prompt_toolkit.lexers import Lexer

from entrenar_common.errors import EntrenarError
from entrenar_shell.statements import statement_at, statements
from entrenar_shell.words import pieces

if TYPE_CHECKING:
    from prompt_toolkit.completion import CompleteEvent
    from prompt_toolkit.document import Document
    from prompt_toolkit.formatted_text import StyleAndTextTuples

    from entrenar_shell.command import Command
    from entrenar_shell.world import World

    Commands = Mapping[tuple[str, ...], Command]

__all__ = ["LineColours", "LineCompleter", "coloured"]


class LineColours(Lexer):
    """Each stretch of a line in the style of what it is, among the commands there are by now."""

    def __init__(self, commands: Callable[[], Commands]) -> None:
        self._commands = commands
        self._coloured = lru_cache(maxsize=64)(lambda text, _known: coloured(text, commands()))

    def lex_document(self, document: Document) -> Callable[[int], StyleAndTextTuples]:
        """The styled text of each line of the document, by its number from 0."""
        lines = self._coloured(document.text, len(self._commands()))
        return lambda number: lines[number] if number < len(lines) else []


def coloured(text: str, commands: Commands) -> list[StyleAndTextTuples]:
    """The lines of a text as pairs of a style and what is shown in it.

    >>> coloured("models # all", {})
    [[('class:command', 'models'), ('', ' '), ('class:comment', '# all')]]
    """
    lines: list[StyleAndTextTuples] = [[]]
    for style, stretch in _stretches(text, commands):
        first, *more = stretch.split("\n")
        for number, part in enumerate((first, *more)):
            if number:
                lines.append([])
            if part:
                lines[-1].append((style, part))
    return lines


def _stretches(text: str, commands: Commands) -> Iterator[tuple[str, str]]:
    at = 0
    for statement in statements(text):
        for piece in pieces(statement.text, commands=commands):
            start, end = statement.start + piece.start, statement.start + piece.end
            yield "", text[at:start]
            yield f"class:{piece.kind}", text[start:end]
            at = end
    yield "", text[at:]


class LineCompleter(Completer):
    """What may stand at the cursor, by what the session has."""

    def __init__(self, world: World) -> None:
        self._world = world

    def get_completions(
        self, document: Document, complete_event: CompleteEvent
    ) -> Iterator[Completion]:
        """The entries of the menu. A model that cannot be read has none to offer."""
        from entrenar_shell.complete import complete  # in the thread, once the prompt is there

        del complete_event
        statement, cursor = statement_at(document.text, document.cursor_position)
        with suppress(EntrenarError, OSError):
            for found in complete(statement.text, cursor, self._world):
                yield Completion(
                    found.text,
                    start_position=found.start - cursor,
                    display=found.shown,
                    display_meta=found.note,
                )
