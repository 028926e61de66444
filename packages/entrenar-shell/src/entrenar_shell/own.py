"""What the shell's own commands have: the workbench that carries them out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from entrenar_shell.execute import Workbench

__all__ = ["WORKBENCH", "workbench"]

WORKBENCH = "entrenar_shell.workbench"
"""Where the context of a command has its workbench, in `meta`."""


def workbench() -> Workbench:
    """The workbench whose line is carried out: a command of the shell itself is about it."""
    return click.get_current_context().meta[WORKBENCH]
