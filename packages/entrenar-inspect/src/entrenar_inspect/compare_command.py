"""The command `compare`."""

from __future__ import annotations

import click

from entrenar_common.cli import EXIT_FINDING, Command, Output, common_options


@click.command(cls=Command)
@click.argument("a", metavar="A")
@click.argument("b", metavar="B")
@click.option("--values", is_flag=True, help="Compare the numbers too, not the headers alone.")
@click.option(
    "--tolerance",
    type=click.FloatRange(0.0),
    metavar="X",
    help="Count tensors as the same whose relative difference ‖b − a‖ / ‖a‖ is at most X; compares "
    "the numbers.",
)
@click.option("--all", "everything", is_flag=True, help="Show every tensor.")
@click.option(
    "--filter",
    "name_filter",
    metavar="GLOB",
    help="Only tensors of these names, such as '*.q_proj.*', and no configs.",
)
@common_options
def compare(
    out: Output, a: str, b: str, *, values, tolerance, everything, name_filter
) -> int | None:
    """Show what differs between two models: tensors, configs and, with --values, numbers.

    Ends with 0 where they are the same and with 1 where they differ, as diff does.

    \b
    Examples:
      entrenar-inspect compare ./base ./merged --values
      entrenar-inspect compare ./model model-q4_k.gguf --tolerance 0.1
      entrenar-inspect compare hf://org/one hf://org/other
    """
    from entrenar_inspect.compare import compare
    from entrenar_inspect.compare_view import Report
    from entrenar_inspect.opening import open_artifact

    with open_artifact(a) as one, open_artifact(b) as other:
        found = compare(
            one, other, values=values or tolerance is not None, tolerance=tolerance,
            name_filter=name_filter, progress=out.progress(),
        )  # fmt: skip
    shown = found if out.json else Report(found, everything=everything, verbose=out.verbose)
    out.emit(shown, schema="entrenar.inspect.compare/1")
    return None if found.same else EXIT_FINDING
