"""How a command of the shell stands for one of a tool: its grammar, and the line that it means.

Nothing about an option is said twice: a form names the tool's command, and what differs from it.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass

import click

from entrenar_common.cli import Command as ClickCommand
from entrenar_common.errors import UsageError
from entrenar_shell.arguments import Given, take_apart
from entrenar_shell.command import After, Command, Group, Kind, PlainLine
from entrenar_shell.configuration import Configuration
from entrenar_shell.knowledge import Fill, meant, place
from entrenar_shell.session import Session
from entrenar_shell.settings import is_key
from entrenar_shell.tools import tool

__all__ = ["HUB", "Form", "Short", "command"]

HUB = "hf://"
"""What entrenar-inspect wants before the name of a model on the hub."""

_PLAIN = re.compile(r"[/.~\w][\w./@+~-]*")

_NAMED: tuple[Kind, ...] = ("model", "adapter", "file", "folder")
"""What may be meant by the name of a model or an output."""


@dataclass(frozen=True)
class Short:
    """An option of the shell alone: short for a key of the configuration, or, without one, for the
    words `means`; without these too, it says something to the shell. A key with a `fill` is given
    where it was not typed, and may be the name of a model."""

    name: str
    help: str
    key: str | None = None
    means: tuple[str, ...] = ()
    fill: Fill | None = None

    def option(self) -> click.Option:
        """The option of the grammar."""
        if self.key is None:
            return click.Option([self.name], is_flag=True, help=self.help)
        return click.Option([self.name], metavar="VALUE", help=self.help)


@dataclass(frozen=True)
class Form:
    """The command `name` of the tool `program`, as the shell has it.

    `always` are words that every line has, in the place of the parameters `hidden`. `renamed` are
    options under other names, `arguments` options that are arguments in the shell. `fill` says what
    parameters get that were not typed. `configuration` is the one whose keys, as the
    session has set them, are passed on by --set. Values of the kinds model, adapter, file and
    folder may be names of models and outputs; `hub` goes before names of models on the hub.
    `missing` is the hint where the session does not know what is needed, and `required` are
    parameters that the shell cannot do without.
    """

    program: str
    name: str
    always: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()
    renamed: Mapping[str, str] | None = None
    arguments: tuple[str, ...] = ()
    fill: Mapping[str, Fill] | None = None
    shorts: tuple[Short, ...] = ()
    configuration: Configuration | None = None
    values: tuple[tuple[str, Kind], ...] = ()
    hub: str = ""
    missing: str = ""
    required: tuple[str, ...] = ()

    # ---- the grammar ---------------------------------------------------------------------------

    def tool_command(self) -> click.Command:
        """The tool's own command."""
        return tool(self.program).commands[self.name]

    def grammar(self, path: Sequence[str], summary: str, examples: Sequence[str]) -> click.Command:
        """The click command with the options, arguments and help of the command at `path`."""
        own = self.tool_command()
        arguments = [self._argument(own, name) for name in self.arguments]
        moved = {*self.hidden, *self.arguments}
        params = [self._param(param) for param in own.params if param.name not in moved]
        shorts = [short.option() for short in self.shorts]
        shown = "\n".join(["\b", "Examples:", *(f"  {example}" for example in examples)])
        return ClickCommand(
            " ".join(path),
            params=[*arguments, *shorts, *params],
            help=f"{summary}\n\n{shown}" if examples else summary,
        )

    def _argument(self, own: click.Command, name: str) -> click.Argument:
        option = _param_of(own, name)
        many = -1 if option.multiple else 1
        filled = name in (self.fill or ())
        return click.Argument(
            [name], type=option.type, nargs=many, required=option.required and not filled,
            metavar=option.metavar if not option.multiple else None,
        )  # fmt: skip

    def _param(self, param: click.Parameter) -> click.Parameter:
        changed = copy.copy(param)
        if param.name in (self.fill or ()):
            changed.required = False
        if param.name in self.required:
            changed.required = True
        if param.name in (self.renamed or {}):
            changed.opts = [(self.renamed or {})[param.name]]
        return changed

    # ---- the line ------------------------------------------------------------------------------

    def lower(self, grammar: click.Command, words: Sequence[str], session: Session) -> PlainLine:
        """The tool's command line that `words` after the command mean in `session`.

        Raises UsageError for words that are no such command, and where something is missing that
        the session does not know either.
        """
        given = take_apart(grammar, words)
        given = self._shift(grammar, given)
        typed = {str(each.param.name): each.value for each in given}
        filled = dict(self._filled(grammar, typed, session))
        loose, options = [], [*self.always]
        for param in self.tool_command().params:
            if param.name in filled:
                value = place(filled[param.name], hub=self.hub)
                target = loose if isinstance(param, click.Argument) else options
                target += [value] if target is loose else [param.opts[0], value]
        now = self._typed_keys(given)
        options += self._settings(session, now) + self._filled_shorts(typed, session, now)
        for each in given:
            if not each.option and each.param.name not in self.arguments:
                loose.append(self._value(each, session))
            else:
                options += self._words(each, session)
        if any(word.startswith("-") for word in loose):
            return (self.program, self.name, *options, "--", *loose)
        return (self.program, self.name, *loose, *options)

    def _shift(self, grammar: click.Command, given: list[Given]) -> list[Given]:
        """Arguments that are fewer than are required are the last of them, when the session can
        fill the first."""
        params = [param for param in grammar.params if isinstance(param, click.Argument)]
        loose = [each for each in given if not each.option]
        missing = len([param for param in params if param.nargs == 1]) - len(loose)
        first = [param for param in params if param.name in (self.fill or ())]
        if not 0 < missing <= len(first) or not any(param.required for param in params):
            return given
        taken = iter(params[missing:])
        return [Given(next(taken), "", e.value) if not e.option else e for e in given]

    def _filled(
        self, grammar: click.Command, typed: Mapping[str, str | None], session: Session
    ) -> Iterator[tuple[str, str]]:
        own = {param.name: param for param in self.tool_command().params}
        for param in grammar.params:
            name = str(param.name)
            if name in typed:
                continue
            fill = (self.fill or {}).get(name)
            value = fill(session, typed) if fill else None
            if value is not None:
                yield name, value
            elif param.required or (fill and own[name].required):
                raise _missing(grammar, param, self.missing if fill else "")

    def _typed_keys(self, given: Sequence[Given]) -> set[str]:
        """The keys of the configuration that were typed: they win over the session's."""
        shorts = {short.name: short.key for short in self.shorts}
        keys = {shorts.get(each.option) or "" for each in given}
        return keys | {
            (each.value or "").partition("=")[0] for each in given if each.param.name == "overrides"
        }

    def _settings(self, session: Session, now: Set[str]) -> list[str]:
        """The session's keys of the configuration."""
        keys = {k: v for k, v in session.settings.items() if is_key(k) and k not in now}
        if self.configuration is None or not keys:
            return []
        from entrenar_shell.configuration import is_known  # a second's work, where no key is set

        return [
            word
            for key, value in keys.items()
            if is_known(key, self.configuration)
            for word in ("--set", f"{key}={value}")
        ]

    def _filled_shorts(
        self, typed: Mapping[str, str | None], session: Session, now: Set[str]
    ) -> list[str]:
        known = {*session.settings, *now}
        values = {
            s.key: s.fill(session, typed) for s in self.shorts if s.fill and s.key not in known
        }
        return [
            word
            for key, value in values.items()
            if value is not None
            for word in ("--set", f"{key}={_scalar(value)}")
        ]

    def _words(self, given: Given, session: Session) -> list[str]:
        for short in self.shorts:
            if short.name == given.option:
                return _short_words(short, given.value, session)
        name = str(given.param.name)
        option = given.option
        if name in self.arguments or name in (self.renamed or {}):
            option = _param_of(self.tool_command(), name).opts[0]
        return [option] if given.value is None else [option, self._value(given, session)]

    def _value(self, given: Given, session: Session) -> str:
        value = given.value or ""
        if dict(self.values).get(str(given.param.name)) in _NAMED:
            return meant(value, session, hub=self.hub)
        return str(value)


def _short_words(short: Short, value: str | None, session: Session) -> list[str]:
    if short.key is None:
        return [*short.means]
    text = value or ""
    named = meant(text, session) if short.fill else text
    return ["--set", f"{short.key}={text if named == text else _scalar(named)}"]


def _scalar(text: str) -> str:
    """A text as --set reads it: what YAML might take for something else in quotes."""
    return text if _PLAIN.fullmatch(text) else json.dumps(text, ensure_ascii=False)


def _param_of(command: click.Command, name: str) -> click.Option:
    found = next(param for param in command.params if param.name == name)
    assert isinstance(found, click.Option)
    return found


def _missing(grammar: click.Command, param: click.Parameter, hint: str) -> UsageError:
    shown = param.opts[0] if isinstance(param, click.Option) else str(param.name).upper()
    return UsageError(
        f"{grammar.name}: {shown} is missing", hint=hint or f"'{grammar.name} ?' shows how"
    )


def command(
    words: str,
    group: Group,
    summary: str,
    form: Form,
    *,
    examples: Sequence[str] = (),
    asks: bool = False,
    after: After | None = None,
) -> Command:
    """The plain command called by `words`, that stands for one command line of a tool."""
    path = tuple(words.split())

    def grammar() -> click.Command:
        return form.grammar(path, summary, examples)

    def lower(typed: Sequence[str], session: Session) -> list[PlainLine]:
        return [form.lower(grammar(), typed, session)]

    return Command(path, group, summary, grammar, lower, asks, form.values, after=after)
