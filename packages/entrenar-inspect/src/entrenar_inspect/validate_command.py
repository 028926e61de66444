"""The command `validate`."""

from __future__ import annotations

import sys

import click

from entrenar_common.cli import EXIT_FINDING, Command, Output, common_options


@click.command(cls=Command)
@click.argument("model")
@click.option("--strict", is_flag=True, help="Take warnings for problems.")
@click.option(
    "--depth",
    type=click.Choice(["header", "structure", "values"]),
    default="values",
    help="How far to look: at headers, at names and shapes too, or at every number too.",
)
@common_options
def validate(out: Output, model: str, strict: bool, depth: str) -> int | None:
    """Say whether a model is sound: its files, hashes, tensors, tokens and every number in it.

    MODEL is a file in safetensors, GGUF, PyTorch's or the APR format, or a folder with such files.
    It ends with exit code 1 where something is wrong with it.

    \b
    Examples:
      entrenar-inspect validate ./model
      entrenar-inspect validate model.Q4_K_M.gguf --strict --json
      entrenar-inspect validate ./model --depth header
    """
    from entrenar_inspect.validate import Depth
    from entrenar_inspect.validate import validate as verdict_on
    from entrenar_inspect.validate_view import Shown, marks_for

    verdict = verdict_on(model, depth=Depth(depth), strict=strict, progress=out.progress())
    shown = Shown(verdict, marks_for(sys.stdout.encoding), whole=out.verbose)
    out.emit(verdict if out.json else shown, schema="entrenar.inspect.validate/1")
    return None if verdict.valid else EXIT_FINDING
