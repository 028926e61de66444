"""What every command line of entrenar shares: groups and commands, options, output, exit codes.

    @tool("entrenar-x", version=__version__)
    def main() -> None:
        \"\"\"What the tool does.\"\"\"

    @main.command()
    @click.argument("model")
    @common_options
    def show(out: Output, model: str) -> None:
        \"\"\"What the command does.\"\"\"
        from entrenar_x.show import describe

        out.emit(describe(model, progress=out.progress()), schema="entrenar.x.show/1")

A command returns nothing, or EXIT_FINDING for a negative finding. It raises for everything else,
and the group's `main` prints the error and ends with its exit code. Click's completion for bash,
zsh and fish works for each tool: `eval "$(_ENTRENAR_X_COMPLETE=bash_source entrenar-x)"`.
"""

from __future__ import annotations

import atexit
import functools
import gc
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import click

from entrenar_common import outcome
from entrenar_common.errors import ConfigError
from entrenar_common.output import Output
from entrenar_common.units import parse_count, parse_duration, parse_memory, parse_size

__all__ = [
    "COUNT",
    "DURATION",
    "EXIT_FINDING",
    "MEMORY",
    "NAMES",
    "SIZE",
    "Command",
    "Group",
    "Output",
    "common_options",
    "live_option",
    "tool",
]

EXIT_FINDING = 1

SETTINGS = {"help_option_names": ["-h", "--help"], "show_default": True}
"""What click wants to know of each command."""

# Python would look for what can be freed in all that was loaded, for 0.1 s, and then end
atexit.register(gc.freeze)


class _Reporting(click.Command):
    """A click command whose `main` reports every error in our form and with our exit code."""

    def __init__(self, *args: Any, context_settings: Any = None, **extra: Any) -> None:
        # each by itself, since a command that was called without its group once keeps its --help
        settings = {**SETTINGS, **(context_settings or {})}
        super().__init__(*args, context_settings=settings, **extra)

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        out: Output | None = None,
        **extra: Any,
    ) -> Any:
        """Run the command line, and end the program (or return the exit code) with its outcome.

        A caller that wants more than the exit code gives the `out` that the command prints by.
        """
        words = list(sys.argv[1:] if args is None else args)
        program = prog_name or self.name or "entrenar"
        self._main_shell_completion(extra, program, complete_var)
        # Click meets a misspelt option before it processes the others, so look for this one here.
        shown = out or Output()
        if "--no-color" in words:
            shown.color = False
        shown.words = (program, *words)

        def run() -> Any:
            with self.make_context(program, list(words), obj=shown, **extra) as context:
                return self.invoke(context)

        code = outcome.of(run, shown, program)
        if standalone_mode:
            sys.exit(code)
        return code

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the arguments that have a help text, the own options, and the common options."""
        sections: dict[str, list[tuple[str, str]]] = {
            "Arguments": [],
            "Options": [],
            "Common options": [],
        }
        for param in self.get_params(ctx):
            line = param.get_help_record(ctx)
            if line is not None and (line[1] or isinstance(param, click.Option)):
                sections[_section(param)].append(line)
        for title, lines in sections.items():
            if lines:
                with formatter.section(title):
                    formatter.write_dl(lines)
        if isinstance(self, click.Group):
            self.format_commands(ctx, formatter)


class Command(_Reporting):
    """One command of a tool, or a whole tool without subcommands."""


class Group(_Reporting, click.Group):
    """A tool with subcommands."""

    command_class = Command
    group_class = type


class _CommonOption(click.Option):
    """An option that every command has."""


def _section(param: click.Parameter) -> str:
    if isinstance(param, click.Argument):
        return "Arguments"
    common = isinstance(param, _CommonOption) or _shows_information(param)
    return "Common options" if common else "Options"


def _shows_information(param: click.Parameter) -> bool:
    """Whether it is an option such as --help and --version, that ends the program when given."""
    return bool({"--help", "--version"} & set(param.opts))


def _setter(attribute: str, value: Any) -> Callable[[click.Context, click.Parameter, bool], None]:
    def set_it(context: click.Context, _param: click.Parameter, given: bool) -> None:
        if given:
            setattr(context.ensure_object(Output), attribute, value)

    return set_it


_COMMON = (
    (("--json", "json"), "json", True, "Print the result as one JSON document."),
    (("-q", "--quiet"), "quiet", True, "Print no progress and no notes."),
    (("-v", "--verbose"), "verbose", True, "Print more about what is done."),
    (("--no-color", "no_color"), "color", False, "Print without colour; so does NO_COLOR=1."),
    (("--debug", "debug"), "debug", True, "Print the traceback of an error."),
)


def _with_options(function: Callable[..., Any]) -> Callable[..., Any]:
    for names, attribute, value, text in reversed(_COMMON):
        function = click.option(
            *names,
            cls=_CommonOption,
            is_flag=True,
            is_eager=True,  # so that an error in another option is already shown as asked
            expose_value=False,
            show_default=False,
            callback=_setter(attribute, value),
            help=text,
        )(function)
    return function


def common_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options that all have, and pass it an `Output` that obeys them as `out`.

    Write it closest to the function.
    """

    @functools.wraps(function)
    def command(*args: Any, **values: Any) -> Any:
        out = click.get_current_context().ensure_object(Output)
        if out.quiet and out.verbose:
            raise click.UsageError("--quiet and --verbose exclude each other")
        return function(*args, out=out, **values)

    return _with_options(command)


def live_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command that trains `--live`, as `live`; it then shows the training on what
    `Output.live` gives."""
    return click.option(
        "--live",
        is_flag=True,
        help="Show the training on the whole terminal meanwhile: the curve of the loss, learning "
        "rate, gradient norm, throughput, memory, what was noticed.",
    )(function)


def tool(name: str, *, version: str) -> Callable[[Callable[..., Any]], Group]:
    """Make a function the group of a tool, called `name` however it was started.

    The common options can be given before the subcommand as well as after it.
    """

    def decorate(function: Callable[..., Any]) -> Group:
        with_version = click.version_option(version, prog_name=name, message="%(prog)s %(version)s")
        return click.group(name, cls=Group)(with_version(_with_options(function)))

    return decorate


class _Quantity(click.ParamType):
    """A quantity with a unit, read by a function of `units`."""

    def __init__(self, name: str, parse: Callable[[str], float]) -> None:
        self.name = name
        self._parse = parse

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """The number meant by `value`; a default that already is a number stays as it is."""
        if not isinstance(value, str):
            return value
        try:
            return self._parse(value)
        except ConfigError as error:
            self._refuse(error, param, ctx)

    def _refuse(
        self, error: ConfigError, param: click.Parameter | None, ctx: click.Context | None
    ) -> NoReturn:
        refused = click.BadParameter(error.message, ctx=ctx, param=param)
        raise refused from error


class _Names(click.ParamType):
    """Names with commas between them, as a tuple."""

    name = "names"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        """The names in `value`, without the spaces around them; a default stays as it is."""
        if not isinstance(value, str):
            return value
        names = tuple(part.strip() for part in value.split(","))
        if not all(names):
            self.fail(f"{value!r} has an empty name, write it like one,two", param, ctx)
        return names


NAMES = _Names()
SIZE = _Quantity("size", parse_size)
COUNT = _Quantity("count", parse_count)
DURATION = _Quantity("duration", parse_duration)
MEMORY = _Quantity("memory", parse_memory)
