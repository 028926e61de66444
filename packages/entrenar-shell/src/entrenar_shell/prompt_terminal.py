"""The prompt on a terminal: a line editor (prompt_toolkit) with a menu, colours and a toolbar.

The history, what completes a word and the hint are found in threads: typing waits for none of them.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from prompt_toolkit import PromptSession
from prompt_toolkit.application import get_app, run_in_terminal
from prompt_toolkit.enums import DEFAULT_BUFFER
from prompt_toolkit.filters import Condition, has_focus
from prompt_toolkit.key_binding import KeyBindings
from prompt_toolkit.output import ColorDepth
from prompt_toolkit.styles import Style

from entrenar_shell.prompt_hint import HintBeside
from entrenar_shell.prompt_history import PromptHistory
from entrenar_shell.prompt_line import LineColours, LineCompleter
from entrenar_shell.prompt_text import Running, prompt_text, toolbar
from entrenar_shell.statements import statement_at, statements

if TYPE_CHECKING:
    from prompt_toolkit.application import Application
    from prompt_toolkit.key_binding.key_processor import KeyPressEvent

    from entrenar_shell.command import Command
    from entrenar_shell.history_file import HistoryFile
    from entrenar_shell.jobs import Jobs
    from entrenar_shell.session import Session
    from entrenar_shell.world import World

__all__ = ["TerminalPrompt"]

_REFRESH = 0.5
"""Seconds between two looks at the jobs that run."""

_STYLE = Style.from_dict(
    {
        "prompt": "bold",
        "command": "bold",
        "option": "ansicyan",
        "string": "ansigreen",
        "operator": "ansiyellow",
        "comment": "dim",
        "error": "ansired",
    }
)


class TerminalPrompt:
    """Reads what is typed. `world` says what the session has for the menu and the hint; `tell` is
    called for each job that ends, above the prompt where one is shown."""

    def __init__(
        self,
        session: Callable[[], Session],
        *,
        world: World,
        jobs: Jobs,
        tell: Callable[[], None],
        history: HistoryFile,
        keep: Callable[[], bool],
        color: bool,
    ) -> None:
        self._session, self._jobs, self._tell = session, jobs, tell
        self._world = world
        self._commands: Mapping[tuple[str, ...], Command] = {}
        self._hint = HintBeside(self._find_hint, changed=self._redraw)
        self._line: PromptSession[str] = PromptSession(
            lambda: [("class:prompt", prompt_text(session()))],
            lexer=LineColours(lambda: self._commands),
            completer=LineCompleter(world),
            complete_in_thread=True,
            history=PromptHistory(history, keep=keep),
            bottom_toolbar=self._toolbar,
            prompt_continuation=_continuation,
            key_bindings=_keys(),
            style=_STYLE,
            color_depth=None if color else ColorDepth.DEPTH_1_BIT,
            enable_open_in_editor=True,
            enable_suspend=True,
            search_ignore_case=True,
            include_default_pygments_style=False,
        )

        self._line.app.after_render += self._load_once

    def read(self) -> str:
        """What is typed next, several lines where it was pasted or goes on.

        Raises KeyboardInterrupt for Ctrl-C, EOFError for Ctrl-D on an empty line, and where the
        terminal was closed.
        """
        return self._line.prompt(pre_run=self._watch_jobs)

    @property
    def reading(self) -> bool:
        """Whether a line is being typed."""
        return self._line.app.is_running

    def close(self) -> None:
        """End the reading as if the terminal were closed; a handler of signals may call this."""
        app = self._line.app
        if app.loop is not None:
            app.loop.call_soon_threadsafe(_end, app)

    def _load_once(self, _app: object) -> None:
        """Once the prompt is there, load all commands, so that no key and no line waits for it."""
        self._line.app.after_render -= self._load_once
        threading.Thread(target=self._load, daemon=True).start()

    def _load(self) -> None:
        self._commands = self._world.commands
        self._redraw()

    def _find_hint(self, text: str, cursor: int) -> str:
        from entrenar_shell.hint import hint  # in the thread, once the prompt is there

        found, inside = statement_at(text, cursor)
        columns = self._line.output.get_size().columns
        return hint(found.text, inside, self._world, columns=columns)

    def _redraw(self) -> None:
        self._line.app.invalidate()

    def _toolbar(self) -> str:
        typed = self._line.default_buffer.document
        shown = self._hint(typed.text, typed.cursor_position)
        running = (Running(j.number, j.line, j.progress()) for j in self._jobs.running())
        return "\n".join(toolbar(shown, self._session(), running))

    def _watch_jobs(self) -> None:
        if self._jobs.running():
            get_app().create_background_task(self._show_jobs())

    async def _show_jobs(self) -> None:
        """Draw the toolbar again while jobs run, and say when one has ended."""
        while self._jobs.running() or self._jobs.untold():
            if self._jobs.untold():
                await run_in_terminal(self._tell)
            self._redraw()
            await asyncio.sleep(_REFRESH)


def _continuation(width: int, _line: int, wrapped: int) -> str:
    """What stands before a line that the one above goes on in; before one that was only too wide
    for the terminal, nothing."""
    return "" if wrapped else "... ".rjust(width)


def _end(app: Application[str]) -> None:
    if app.is_running and not app.is_done:
        app.exit(exception=EOFError())


def _keys() -> KeyBindings:
    keys = KeyBindings()

    @Condition
    def goes_on() -> bool:
        return statements(get_app().current_buffer.text)[-1].open

    @keys.add("enter", filter=has_focus(DEFAULT_BUFFER) & goes_on)
    def _(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    return keys
