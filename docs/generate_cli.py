"""Writes docs/cli: the help of every command, as `make docs` calls it. A test compares them."""

from pathlib import Path

import click

from entrenar_bench.cli import main as bench
from entrenar_distill.cli import main as distill
from entrenar_inspect.cli import main as inspect
from entrenar_lora.cli import main as lora

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
    return {f"{name}.md": _page(name, tool) for name, tool in TOOLS.items()}


def _page(name: str, tool: click.Group) -> str:
    context = click.Context(tool, info_name=name, terminal_width=WIDTH, **tool.context_settings)
    sections = [f"# {name}", "Written by `make docs` from the help texts.", _help(context)]
    for command_name, command in tool.commands.items():
        inner = click.Context(command, info_name=command_name, parent=context, terminal_width=WIDTH)
        sections += [f"## {name} {command_name}", _help(inner)]
    return "\n\n".join(sections) + "\n"


def _help(context: click.Context) -> str:
    return f"```text\n{context.get_help()}\n```"


if __name__ == "__main__":
    for file, text in pages().items():
        (FOLDER / file).write_text(text, encoding="utf-8")
