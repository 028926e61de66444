"""The command `info`."""

from __future__ import annotations

import click

from entrenar_common.cli import Command, Output, common_options


@click.command(cls=Command)
@click.argument("model")
@common_options
def info(out: Output, model: str) -> None:
    """Show what a model is, from its headers: family, size, precision, tokenizer and more.

    MODEL is a file in safetensors, GGUF, PyTorch's or the APR format, a folder with such files, or
    a model on the hub (hf://org/name).

    \b
    Examples:
      entrenar-inspect info ./model
      entrenar-inspect info model.Q4_K_M.gguf --json
    """
    from entrenar_inspect.info import info
    from entrenar_inspect.opening import open_artifact

    with open_artifact(model) as artifact:
        found = info(artifact, whole_metadata=out.verbose)
    out.emit(found, schema="entrenar.inspect.info/1")
