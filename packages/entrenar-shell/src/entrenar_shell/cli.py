"""The command line of entrenar-shell."""

from __future__ import annotations

import gc
import sys

import click

from entrenar_common.cli import Command, Output, common_options
from entrenar_shell import __version__


@click.command("entrenar-shell", cls=Command)
@click.argument("script", required=False, metavar="[SCRIPT]")
@click.option(
    "-c", "lines", multiple=True, metavar="LINE", help="Carry out LINE, and leave. Repeatable."
)
@click.option("--yes", is_flag=True, help="Start long work without a question.")
@click.option(
    "--keep-going",
    is_flag=True,
    help="Go on after a line that fails; the exit code is that of the first one.",
)
@click.option(
    "--session", metavar="NAME", help="The session to go on with, or to begin under this name."
)
@click.option("--resume", is_flag=True, help="Go on with the session that was saved last.")
@click.option(
    "--no-history", is_flag=True, help="Keep neither the session nor the lines that are typed."
)
@click.version_option(__version__, prog_name="entrenar-shell", message="%(prog)s %(version)s")
@common_options
def main(
    out: Output, script, lines, yes, keep_going, session, resume, no_history
) -> int | None:  # fmt: skip
    """One prompt for all entrenar tools: models by name, settings, a history, a session that is
    kept.

    With SCRIPT, a file of commands ('-' is standard input), with -c, or where input or output is
    no terminal, commands are carried out without a prompt, up to the first that fails, and its
    exit code is the shell's. Nobody is asked then: long work needs --yes.

    \b
    Examples:
      entrenar-shell
      entrenar-shell --resume
      entrenar-shell -c "load ./teacher as t" -c "memory --batch 32 --seq 512" --json
      entrenar-shell --yes --keep-going experiments.ent
    """
    interactive = sys.stdin.isatty() and sys.stdout.isatty()
    if interactive and script is None and not lines:
        gc.disable()  # until the prompt is there: nothing of what is loaded for it is garbage
    from entrenar_shell.start import Start, begin

    start = Start(
        script=script, lines=lines, yes=yes, keep_going=keep_going, session=session,
        resume=resume, kept=not no_history,
        interactive=interactive,
    )  # fmt: skip
    return begin(start, out)
