"""The command `sweep`."""

from __future__ import annotations

import click

from entrenar_bench.study_options import (
    base_options,
    confirm_option,
    metric_options,
    show,
    study_options,
)
from entrenar_common.cli import Command, Output, common_options


@click.command(cls=Command)
@click.option(
    "--param",
    "parameters",
    multiple=True,
    required=True,
    metavar="KEY=SPEC",
    help="Values of a key: alpha=0.3,0.5 or temperature=1:8:0.5 or learning_rate=log:1e-5..1e-3:5; "
    "for random points also 1..8 or log:1e-5..1e-3. Repeatable.",
)
@click.option(
    "--sampler",
    type=click.Choice(["grid", "random", "tpe"]),
    default="grid",
    help="Every point; some at random; or one after the other, each by the results of those before "
    "(needs optuna: pip install 'entrenar-bench[tpe]').",
)
@click.option("--trials", type=click.IntRange(1), metavar="N", help="How many points, not a grid.")
@click.option(
    "--halving",
    type=click.IntRange(2),
    is_flag=False,
    flag_value=3,
    metavar="[ETA]",
    help="Begin with few seeds for every point and give more to the best 1/ETA (3) only, in rungs.",
)
@base_options
@study_options("sweep.study")
@metric_options
@confirm_option
@common_options
def sweep(
    out: Output,
    base,
    parameters,
    sampler,
    trials,
    halving,
    metric,
    goal,
    seeds,
    place,
    csv,
    live,
    confirm,
) -> None:
    """Run a distillation with other values of its keys, and compare each with how it is.

    With --sampler tpe, --jobs are seeds of one point: the next point waits for them.

    \b
    Examples:
      entrenar-bench sweep --config distill.yaml --param alpha=0.3,0.5,0.7 --seeds 5
      entrenar-bench sweep --config distill.yaml --param learning_rate=log:1e-4..1e-2 \\
        --sampler random --trials 8 --confirm 5
      entrenar-bench sweep --config distill.yaml --param temperature=1.0..8.0 \\
        --param learning_rate=log:1e-4..1e-2 --sampler tpe --trials 30 --jobs 5 --confirm 5
      entrenar-bench sweep --config distill.yaml --param learning_rate=log:1e-4..1e-2:9 \\
        --seeds 9 --halving 3 --confirm 5
    """
    from entrenar_bench.sweep_inquiry import sweep_inquiry

    asked = sweep_inquiry(
        base, parameters, sampler=sampler, trials=trials, halving=halving, seeds=seeds,
        metric=metric, goal=goal, confirm=confirm,
    )  # fmt: skip
    show(out, asked, place, csv, "entrenar.bench.sweep/1", live=live)
