"""The command `generate`."""

from __future__ import annotations

import sys

import click

from entrenar_common.cli import Command, Output, common_options
from entrenar_distill.compute_option import compute_option


@click.command(cls=Command)
@click.argument("prompt", required=False)
@click.option(
    "--model", required=True, metavar="MODEL", help="Model: a folder, a GGUF or APR file, org/name."
)
@click.option("--chat", is_flag=True, help="Put the prompt into the model's chat template.")
@click.option("--system", metavar="TEXT", help="With --chat, the message of the system.")
@click.option(
    "--max-new-tokens",
    type=int,
    metavar="N",
    help="Tokens to write at most.  [default: 64, or what the model has positions for]",
)
@click.option(
    "--temperature",
    default=0.0,
    help="Draw tokens; 0 takes the most likely one.",
    show_default=True,
)
@click.option("--top-k", type=int, metavar="K", help="Draw from the K most likely tokens only.")
@click.option(
    "--top-p",
    default=1.0,
    show_default=True,
    help="Draw from the fewest tokens of this probability.",
)
@click.option(
    "--min-p",
    default=0.0,
    show_default=True,
    help="Draw from tokens at least this many times as likely as the most likely one.",
)
@click.option(
    "--repetition-penalty", default=1.0, show_default=True, help="Make tokens rarer that are there."
)
@click.option("--stop", multiple=True, metavar="TEXT", help="Text that ends it. Repeatable.")
@click.option("--seed", default=0, show_default=True, help="Seed of drawing.")
@compute_option
@common_options
def generate(out: Output, prompt, model, chat, system, compute, **options) -> None:
    """Have a model go on from PROMPT, or, without one, from what standard input says.

    The text goes to standard output while it is written.

    \b
    Examples:
      entrenar-distill generate --model ./student "def read(path):"
      entrenar-distill generate --model org/chat-model --chat "Why is the sky blue?" \\
          --temperature 0.7 --top-p 0.9 --max-new-tokens 200
    """
    from entrenar_distill.writer import Writer, WritingOptions

    text = sys.stdin.read() if prompt is None else prompt
    asked = WritingOptions(**options)
    writer = Writer.load(model, compute=compute)
    if chat:
        text = writer.as_question(text, system=system)
    written = writer.write(text, asked, templated=chat, show=out.piece)
    out.emit(written, schema=written.SCHEMA)
    out.note(written.summary)
