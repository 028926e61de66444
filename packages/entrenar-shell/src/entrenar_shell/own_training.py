"""The command that draws what a training logged."""

from __future__ import annotations

import sys

import click

from entrenar_common.cli import Command as ClickCommand
from entrenar_common.cli import Output, common_options
from entrenar_common.plot import ASCII, UNICODE
from entrenar_shell.command import Command
from entrenar_shell.own import workbench

__all__ = ["COMMANDS"]


@click.command("plot loss", cls=ClickCommand)
@click.argument("run", required=False)
@click.option("--height", type=click.IntRange(3, 100), default=16, help="Lines of the curve.")
@common_options
def _loss(out: Output, run: str | None, height: int) -> None:
    """Draw the loss over the steps of a run, and where it was measured on held-out text.

    RUN is the folder of a run or its metrics.jsonl, by default that of what was trained last.

    \b
    Examples:
      plot loss
      plot loss _4
      plot loss ./distilled-model --height 24
    """
    from entrenar_shell.curves import Drawn, curves, log_of

    found = curves(log_of(run, workbench().session))
    unicode = (sys.stdout.encoding or "utf-8").lower().startswith("utf")
    drawn = Drawn(found, UNICODE if unicode else ASCII, height)
    out.emit(found if out.json else drawn, schema="entrenar.shell.plot/1")


COMMANDS: tuple[Command, ...] = (
    Command(
        ("plot", "loss"), "train", "Draw the loss of a training.", lambda: _loss,
        values=(("run", "folder"),),
    ),
)  # fmt: skip
