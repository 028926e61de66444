"""The words of a command matched with the options and arguments of its grammar."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import click

from entrenar_common.errors import UsageError
from entrenar_common.text import escape_controls, nearest
from entrenar_shell.words import is_option

__all__ = ["Given", "Quoted", "take_apart"]


class Quoted(str):
    """A word that was in quotes: it is what it says, never the name of a model or an output."""


@dataclass(frozen=True)
class Given:
    """An option or an argument that was typed: `option` is how it was spelt, "" for an argument,
    and `value` what it was given, None for a flag."""

    param: click.Parameter
    option: str
    value: str | None = None


def take_apart(grammar: click.Command, words: Sequence[str]) -> list[Given]:
    """What `words` give to the parameters of `grammar`, in the order in which they were typed.

    Raises UsageError for an option that there is not or that lacks its value, and for words that
    no argument takes. Whether something required is missing is not looked at.
    """
    options = {
        name: param
        for param in grammar.params
        if isinstance(param, click.Option)
        for name in (*param.opts, *param.secondary_opts)
    }
    found: list[Given] = []
    loose: list[str] = []
    rest = iter(words)
    for word in rest:
        if word == "--":
            loose.extend(rest)
        elif is_option(word):
            found += _options(word, rest, options)
        else:
            loose.append(word)
    return found + _arguments(grammar, loose)


def _options(word: str, rest: Iterator[str], options: dict[str, click.Option]) -> Iterator[Given]:
    """The option in a word, or the short flags that stand together in it."""
    name, equals, value = word.partition("=")
    if name not in options and not name.startswith("--") and len(name) > 2:
        for letter in word[1:]:
            yield from _options(f"-{letter}", rest, options)
        return
    if name not in options:
        near = nearest(name, options)
        raise UsageError(
            f"no such option: {escape_controls(name)}",
            hint=f"did you mean {near}?" if near else "'COMMAND ?' lists the options of a command",
        )
    param = options[name]
    if param.is_flag or param.count:
        if equals:
            raise UsageError(f"{name} takes no value", hint=f"write {name} alone")
        yield Given(param, name)
        return
    if not equals:
        value = next(rest, None)
        if value is None:
            raise UsageError(f"{name} needs a value", hint=f"write {name} {_metavar(param)}")
    yield Given(param, name, value)


def _metavar(param: click.Parameter) -> str:
    return param.metavar or param.type.name.upper()


def _arguments(grammar: click.Command, words: list[str]) -> list[Given]:
    """The words that are no options, given to the arguments; one that takes many has all it can."""
    params = [param for param in grammar.params if isinstance(param, click.Argument)]
    single = sum(param.nargs == 1 for param in params)
    many = max(len(words) - single, 0) if single < len(params) else 0
    found, position = [], 0
    for param in params:
        take = 1 if param.nargs == 1 else many
        found += [Given(param, "", word) for word in words[position : position + take]]
        position += take
    if position < len(words):
        raise UsageError(
            f"one word too many: {escape_controls(words[position])}",
            hint="quote what has spaces in it, or leave it out",
        )
    return found
