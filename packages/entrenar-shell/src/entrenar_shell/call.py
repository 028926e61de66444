"""A command and the words it is called with: what each word gives, what is wrong, what the next
one can be. Unlike in click itself the words may be unfinished."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import click

from entrenar_common.text import escape_controls, nearest
from entrenar_shell.command import Command

__all__ = ["Call", "Slot", "call", "find", "names", "width"]


@dataclass(frozen=True)
class Slot:
    """What a word fills: value number `index` of a parameter. `attached` is the start of the word
    that is not the value, as in --option=value."""

    parameter: click.Parameter
    index: int = 0
    attached: str = ""

    @property
    def name(self) -> str:
        """The parameter's name."""
        return self.parameter.name or ""

    @property
    def type(self) -> click.ParamType:
        """The type of this value alone."""
        types = self.parameter.type
        return types.types[self.index] if isinstance(types, click.Tuple) else types


@dataclass
class Call:
    """A command, its parameters, and by their names the values `given` so far. `awaits` is where
    the last word was an option whose value is to follow; `arguments` counts the words that are no
    options, and after -- there are no more `options`. `mistakes` say what is wrong with words."""

    command: Command
    parameters: tuple[click.Parameter, ...]
    given: dict[str, list[str]] = field(default_factory=dict)
    awaits: Slot | None = None
    options: bool = True
    arguments: int = 0
    mistakes: list[str] = field(default_factory=list)

    def slot(self, typed: str) -> Slot | None:
        """What a next word fills that begins with `typed`; None where it is the name of an option,
        or one word too many."""
        if self.awaits is not None:
            return self.awaits
        if not (self.options and typed.startswith("-")):
            return self.argument()
        name, equals, _ = typed.partition("=")
        option = self.option(name) if equals and typed.startswith("--") else None
        return Slot(option, attached=name + equals) if option and width(option) else None

    def argument(self) -> Slot | None:
        """What a next word fills that is no option. An argument that takes any number of words
        takes all that follow."""
        first = 0
        for parameter in self.parameters:
            if not isinstance(parameter, click.Argument):
                continue
            if parameter.nargs < 0 or self.arguments < first + parameter.nargs:
                return Slot(parameter, self.arguments - first)
            first += parameter.nargs
        return None

    def option(self, name: str) -> click.Option | None:
        """The option with a name such as --json or -q."""
        return next((option for option in self._options() if name in names(option)), None)

    def addable(self) -> list[click.Option]:
        """The options that can be given yet: once each, but those that say otherwise."""
        return [
            option
            for option in self._options()
            if not option.hidden
            and (option.multiple or option.count or (option.name or "") not in self.given)
        ]

    def missing_options(self) -> list[click.Option]:
        """The options without which the command does not start, not given yet."""
        return [o for o in self._options() if o.required and (o.name or "") not in self.given]

    def _options(self) -> Iterator[click.Option]:
        return (p for p in self.parameters if isinstance(p, click.Option))


def names(option: click.Option) -> list[str]:
    """All names of an option, the ones that turn a flag off too."""
    return [*option.opts, *option.secondary_opts]


def width(option: click.Option) -> int:
    """How many words an option takes after its name."""
    return 0 if option.is_flag or option.count else option.nargs


def find(
    commands: Mapping[tuple[str, ...], Command], words: Sequence[str]
) -> tuple[Command, Sequence[str]] | None:
    """The command that words call, by its path or an alias, and the words after that; None where
    there is no such."""
    aliases = {tuple(alias.split()): c for c in commands.values() for alias in c.aliases}
    for length in (2, 1):
        path = tuple(words[:length])
        command = commands.get(path) or aliases.get(path)
        if command is not None and len(path) == length:
            return command, words[length:]
    return None


def call(command: Command, words: Sequence[str]) -> Call:
    """Read the words after a command's own; nothing is carried out."""
    grammar = command.grammar()
    context = click.Context(grammar, info_name=" ".join(command.path), resilient_parsing=True)
    made = Call(command, tuple(grammar.get_params(context)))
    for word in words:
        _read(made, word)
    return made


def _read(made: Call, word: str) -> None:
    if made.awaits is not None:
        _give(made, made.awaits, word)
    elif made.options and word == "--":
        made.options = False
    elif made.options and word.startswith("-") and word != "-":
        (_read_long if word.startswith("--") else _read_short)(made, word)
    else:
        slot = made.argument()
        made.arguments += 1
        if slot is not None:
            _give(made, slot, word)
        else:
            made.mistakes.append(f"one word too many: {escape_controls(word)}")


def _read_long(made: Call, word: str) -> None:
    name, equals, value = word.partition("=")
    option = made.option(name)
    if option is None:
        _unknown(made, name)
    elif equals and not width(option):
        made.mistakes.append(f"{name} takes no value")
    elif equals:
        _give(made, Slot(option), value)
    else:
        _open(made, option)


def _read_short(made: Call, word: str) -> None:
    """Read -qv as -q -v, and -n5 as -n 5."""
    for at in range(1, len(word)):
        option = made.option(f"-{word[at]}")
        if option is None:
            return _unknown(made, f"-{word[at]}")
        if width(option) and word[at + 1 :]:
            return _give(made, Slot(option), word[at + 1 :])
        _open(made, option)
    return None


def _open(made: Call, option: click.Option) -> None:
    made.given.setdefault(option.name or "", [])
    made.awaits = Slot(option) if width(option) else None


def _unknown(made: Call, name: str) -> None:
    known = [name for option in made.addable() for name in names(option)]
    like = nearest(name, known)
    made.mistakes.append(f"no option {escape_controls(name)}" + (f": {like}?" if like else ""))


def _give(made: Call, slot: Slot, value: str) -> None:
    made.given.setdefault(slot.name, []).append(value)
    option = slot.parameter if isinstance(slot.parameter, click.Option) else None
    goes_on = option is not None and slot.index + 1 < option.nargs
    made.awaits = Slot(slot.parameter, slot.index + 1) if goes_on else None
    fault = _fault(made, slot, value)
    if fault:
        label = names(option)[0] if option else slot.parameter.human_readable_name
        made.mistakes.append(f"{label}: {escape_controls(fault)}")


def _fault(made: Call, slot: Slot, value: str) -> str | None:
    """What the type has against a value. Names of things and paths are not looked up."""
    if slot.name in dict(made.command.values) or isinstance(slot.type, click.Path | click.File):
        return None
    try:
        slot.type.convert(value, slot.parameter, None)
    except click.UsageError as error:
        return error.message.rstrip(".")
    return None
