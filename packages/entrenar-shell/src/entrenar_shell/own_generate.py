"""The command that has a model go on with one text after the other."""

from __future__ import annotations

import sys

import click

from entrenar_common.cli import Command as ClickCommand
from entrenar_common.errors import UsageError
from entrenar_shell.command import Command
from entrenar_shell.lowering_models import GENERATE, GENERATE_VALUES
from entrenar_shell.own import workbench

__all__ = ["COMMANDS"]

_WORDS = "entrenar_shell.words"
_INTERRUPTED = 130
_SUMMARY = "Have a model go on with one text after the other, up to an empty line."


class _Asking(ClickCommand):
    """Keeps its words as they were typed: they are those of `generate` too."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click does."""
        ctx.meta[_WORDS] = list(args)
        return super().parse_args(ctx, args)


def _ask(**_values: object) -> int:
    bench = workbench()
    if bench.asker is None:
        raise UsageError(
            "ask: nobody is here who could be asked", hint="use generate 'TEXT' in a script"
        )
    words = click.get_current_context().meta[_WORDS]
    while text := _read():
        code = bench.perform("generate", [*words, "--", text])
        if code not in (0, _INTERRUPTED):
            return code
    return 0


def _read() -> str:
    """What is typed, "" at the end; below what a redirected output has, so not in it."""
    sys.stderr.write(">>> ")
    sys.stderr.flush()
    return sys.stdin.readline().strip()


def _grammar() -> click.Command:
    generate = GENERATE.grammar(("ask",), _SUMMARY, ("ask", "ask --model student --chat"))
    params = [param for param in generate.params if param.name != "prompt"]
    return _Asking(
        "ask", params=params, help=generate.help, callback=_ask,
        context_settings=generate.context_settings,
    )  # fmt: skip


COMMANDS: tuple[Command, ...] = (
    Command(("ask",), "models", _SUMMARY, _grammar, values=GENERATE_VALUES),
)
