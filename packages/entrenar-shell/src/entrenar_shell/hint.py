"""One line under a line: how the command that is typed goes on, or what is wrong with it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile

from rich.cells import cell_len, set_cell_size

from entrenar_common.text import escape_controls, nearest
from entrenar_shell import candidates
from entrenar_shell.call import Call, Slot, call, find, names
from entrenar_shell.describe import about, about_setting, syntax
from entrenar_shell.mistakes import IncompleteLine, asks_for_help, mistake
from entrenar_shell.place import Place, place
from entrenar_shell.tokens import tokens
from entrenar_shell.world import World

__all__ = ["hint"]

_ROLES = {
    "file": "«FILE» gets what the command prints",
    "program": "«PROGRAM» of the system",
    "system": "for the system's own shell",
    "comment": "a comment",
}
_ENDS = {"&": "& runs the command as a job in the background"}


def hint(text: str, cursor: int, world: World, *, columns: int = 80) -> str:
    """What helps with a line while the cursor is at an offset of it, in at most `columns` cells.

    The first mistake, if one was made; else the syntax of the command, with what is typed now in
    guillemets, and a few words on that.
    """
    return _fitted(escape_controls(_hint(text, cursor, world)), columns)


def _fitted(line: str, columns: int) -> str:
    if cell_len(line) <= columns:
        return line
    return set_cell_size(line, columns - 1) + "…" if columns > 0 else ""


def _hint(text: str, cursor: int, world: World) -> str:
    found = tokens(text)
    here = place(text, cursor)
    wrong = mistake(text, found)
    begun = here.role in {"file", "program"} and not here.typed  # is about to be right
    if wrong is not None and not begun and not isinstance(wrong.error, IncompleteLine):
        return f"{wrong.error.message}; {wrong.error.hint}"
    if here.role == "end":
        return _ENDS.get(next(token.text for token in found if token.kind == "operator"), "")
    if here.role != "word":
        return _ROLES[here.role]
    words = list(takewhile(lambda token: token.kind == "word", found))
    if words and words[-1] is found[-1] and asks_for_help(words[-1]):
        return f"? shows the help of {' '.join(word.text for word in words[:-1]) or 'the shell'}"
    exact = find(world.commands, (*here.words, here.typed))
    if exact is not None and not exact[1]:
        return f"{syntax(call(exact[0], ()), None)} — {exact[0].summary}"
    called = find(world.commands, here.words)
    if called is None:
        return _of_path(here, world)
    command, before = called
    complete = before if here.typed else [w.text for w in words][len(here.words) - len(before) :]
    wrongs = call(command, complete).mistakes
    return wrongs[0] if wrongs else _of_word(call(command, before), before, here.typed, world)


def _of_path(here: Place, world: World) -> str:
    """While the words of a command itself are typed."""
    if not here.words and not here.typed:
        return "help lists the commands, Tab completes what is typed"
    matching = candidates.commands(world, here.words, here.typed)
    begun = [match.text for match in matching if match.text.startswith(here.typed)]
    if begun:
        return " ".join([*here.words, f"«{' | '.join(begun)}»"])
    words = (*here.words, here.typed)
    before = words[:1] if candidates.commands(world, words[:1], "") else ()
    known = [match.text for match in candidates.commands(world, before, "")]
    like = nearest(words[len(before)], known)
    return f"no command {' '.join(words[: len(before) + 1])}" + (f": {like}?" if like else "")


def _of_word(made: Call, before: Sequence[str], typed: str, world: World) -> str:
    """While a word after the command's own is typed, and nothing is wrong with those before."""
    slot = made.slot(typed)
    if slot is not None:
        setting = candidates.setting_before(made, slot)
        what = about_setting(setting, world) if setting else about(made, slot.parameter)
        return _line(syntax(made, slot), what)
    if made.options and typed.startswith("-"):
        return _of_option(made, before, typed)
    if typed:
        return call(made.command, [*before, typed]).mistakes[-1]
    needed = ", ".join(names(p)[0] for p in made.missing_options())
    return _line(syntax(made, None), f"needs {needed}" if needed else made.command.summary)


def _of_option(made: Call, before: Sequence[str], typed: str) -> str:
    """While the name of an option is typed."""
    name = typed.partition("=")[0]
    known = [(n, option) for option in made.addable() for n in names(option)]
    option = made.option(name)
    matching = [(n, o) for n, o in known if n.startswith(name)]
    if option is None and len({id(o) for _, o in matching}) == 1:
        option = matching[0][1]
    if option is not None:
        return _line(syntax(made, Slot(option)), about(made, option))
    if matching:
        return " ".join([*made.command.path, f"«{' | '.join(n for n, _ in matching)}»"])
    wrongs = call(made.command, [*before, typed]).mistakes
    return wrongs[-1] if wrongs else _line(syntax(made, None), made.command.summary)


def _line(first: str, second: str) -> str:
    return f"{first} — {second}" if second else first
