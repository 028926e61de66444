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
@click.option("--sampler", type=click.Choice(["grid", "random"]), default="grid")
@click.option("--trials", type=click.IntRange(1), metavar="N", help="Random points.")
@base_options
@study_options("sweep.study")
@metric_options
@confirm_option
@common_options
def sweep(
    out: Output, base, parameters, sampler, trials, metric, goal, seeds, place, csv, confirm
) -> None:
    """Run a distillation with other values of its keys, and compare each with how it is.

    \b
    Examples:
      entrenar-bench sweep --config distill.yaml --param alpha=0.3,0.5,0.7 --seeds 5
      entrenar-bench sweep --config distill.yaml --param learning_rate=log:1e-4..1e-2 \\
        --sampler random --trials 8 --confirm 5
    """
    from entrenar_bench.conduct import Inquiry
    from entrenar_bench.study import Search
    from entrenar_bench.sweeping import BASE, sweep_arms

    baseline, arms = sweep_arms(base, parameters, sampler=sampler, trials=trials)
    search = Search(tuple(parameters), sampler)
    if trials is not None:
        drawn = tuple(arm.name for arm in arms if arm.name != BASE)
        search = Search(tuple(parameters), f"{sampler}, {trials} points", drawn=drawn)
    asked = Inquiry(
        "Sweep", arms, seeds, metric, goal, baseline=baseline, confirm=confirm, search=search
    )
    show(out, asked, place, csv, "entrenar.bench.sweep/1")
