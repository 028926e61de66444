import io

import pytest
from rich.style import Style

from entrenar_common.console import STYLES, is_terminal, make_console, paint, wants_color


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch):
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")


def test_colour_is_for_terminals():
    assert wants_color(Terminal())
    assert not wants_color(io.StringIO())


def test_force_color_colours_a_pipe(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert wants_color(io.StringIO())


def test_no_color_is_stronger_than_force_color(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("NO_COLOR", "1")
    assert not wants_color(Terminal())


def test_empty_no_color_counts_as_not_set(monkeypatch):
    monkeypatch.setenv("NO_COLOR", "")
    assert wants_color(Terminal())


def test_dumb_terminal_is_treated_as_a_pipe(monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    assert not is_terminal(Terminal())


@pytest.mark.parametrize("style", ["error", "warning", "hint", "note"])
def test_paint_gives_the_escape_sequence_that_rich_gives(style):
    console = make_console(io.StringIO(), color=True)
    shown = Style.parse(STYLES[style]).render("x", color_system=console._color_system)
    assert paint("x", style) == shown


def test_console_without_colour_writes_text_alone():
    stream = Terminal()
    make_console(stream, color=False).print("[b]x[/b] :smile: 123", style="title")
    assert stream.getvalue() == "[b]x[/b] :smile: 123\n"
