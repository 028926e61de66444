"""Writes docs/cli: the help of every command, as `make docs` calls it. A test compares them."""

import re
from pathlib import Path

import click

from entrenar_bench.cli import main as bench
from entrenar_distill.cli import main as distill
from entrenar_inspect.cli import main as inspect
from entrenar_lora.cli import main as lora
from entrenar_shell.cli import main as shell
from entrenar_shell.command import GROUPS, Command
from entrenar_shell.own_system import help_text
from entrenar_shell.registry import commands

TOOLS = {
    "entrenar-distill": distill,
    "entrenar-lora": lora,
    "entrenar-inspect": inspect,
    "entrenar-bench": bench,
}
FOLDER = Path(__file__).parent / "cli"
WIDTH = 78  # click leaves two of a terminal's 80 columns free


def pages() -> dict[str, str]:
    """The Markdown of each page by its file name: the help as 80 columns show it."""
    tools = {f"{name}.md": _page(name, tool) for name, tool in TOOLS.items()}
    return {**tools, "entrenar-shell.md": _shell_page()}


def _page(name: str, tool: click.Group) -> str:
    context = click.Context(tool, info_name=name, terminal_width=WIDTH, **tool.context_settings)
    sections = [f"# {name}", "Written by `make docs` from the help texts.", _help(context)]
    for command_name, command in tool.commands.items():
        inner = click.Context(command, info_name=command_name, parent=context, terminal_width=WIDTH)
        sections += [f"## {name} {command_name}", _help(inner)]
    return "\n\n".join(sections) + "\n"


def _shell_page() -> str:
    """The help of the program, and usage, summary and examples of the commands typed in it."""
    context = click.Context(
        shell, info_name="entrenar-shell", terminal_width=WIDTH, **shell.context_settings
    )
    sections = ["# entrenar-shell", "Written by `make docs` from the help texts.", _help(context)]
    for group in GROUPS:
        sections.append(f"## Commands: {group}")
        sections += [_command(each) for each in commands().values() if each.group == group]
    return "\n\n".join(sections) + "\n"


def _command(command: Command) -> str:
    """The help of a command of the shell up to its options; `COMMAND ?` shows these."""
    text = re.split(
        r"\n\n(?=Arguments:|Options:|Common options:)", help_text(command, width=WIDTH)
    )[0]
    return f"### {' '.join(command.path)}\n\n```text\n{text}\n```"


def _help(context: click.Context) -> str:
    return f"```text\n{context.get_help()}\n```"


if __name__ == "__main__":
    for file, text in pages().items():
        (FOLDER / file).write_text(text, encoding="utf-8")
