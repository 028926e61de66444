"""The command `temperature`."""

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
@click.option("--range", "span", required=True, metavar="LOW..HIGH", help="Temperatures.")
@click.option("--step", default="0.5", metavar="NUMBER", help="From one to the next.")
@base_options
@study_options("temperature.study")
@metric_options
@confirm_option
@common_options
def temperature(
    out: Output, base, span, step, metric, goal, seeds, place, csv, live, confirm
) -> None:
    """Run a distillation at several temperatures, and compare each with the first.

    \b
    Examples:
      entrenar-bench temperature --range 1.0..8.0 --step 0.5 --config distill.yaml --seeds 3
      entrenar-bench temperature --range 1..4 --step 1 --config distill.yaml --confirm 5
    """
    from entrenar_bench.conduct import Inquiry
    from entrenar_bench.study import Search
    from entrenar_bench.sweeping import temperature_arms

    arms = temperature_arms(base, span, step)
    asked = Inquiry(
        "Temperatures", arms, seeds, metric, goal, baseline=arms[0].name, confirm=confirm,
        search=Search((f"temperature={span}, in steps of {step}",), "grid"),
    )  # fmt: skip
    show(out, asked, place, csv, "entrenar.bench.temperature/1", live=live)
