"""The command `layers`."""

from __future__ import annotations

import click

from entrenar_common.cli import Command, Output, common_options


@click.command(cls=Command)
@click.argument("model")
@click.option(
    "--filter",
    "only",
    metavar="PATTERN",
    help="Only tensors whose names match, such as 'layers.0.*' or '*.weight'.",
)
@click.option(
    "--sort",
    type=click.Choice(["params", "memory", "name"]),
    help="Order of what lies in one module; else that of the file.",
)
@click.option(
    "--stats", is_flag=True, help="Read all numbers: mean, deviation, extremes, zeros, outliers."
)
@click.option(
    "--csv", "as_csv", is_flag=True, help="Print a line of comma-separated values for each tensor."
)
@common_options
def layers(out: Output, model, only, sort, stats, as_csv) -> None:
    """List the tensors of a model as the tree of its modules, with shapes, types and sizes.

    Blocks that are alike are listed once; --verbose lists them all.

    \b
    Examples:
      entrenar-inspect layers ./model
      entrenar-inspect layers model.gguf --filter 'blk.0.*' --stats
      entrenar-inspect layers model.safetensors --sort params --csv
    """
    if as_csv and out.json:
        raise click.UsageError("--csv and --json exclude each other")
    from entrenar_inspect import layers as library
    from entrenar_inspect.opening import open_artifact

    with open_artifact(model) as artifact:
        report = library.layers(
            artifact, only=only, sort=sort, stats=stats, expanded=out.verbose,
            progress=out.progress(),
        )  # fmt: skip
    if as_csv:
        out.close()
        click.echo(report.csv(), nl=False)
    else:
        out.emit(report, schema="entrenar.inspect.layers/1")
