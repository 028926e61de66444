"""The command `ablation`."""

from __future__ import annotations

import click

from entrenar_bench.study_options import base_options, metric_options, show, study_options
from entrenar_common.cli import NAMES, Command, Output, common_options


@click.command(cls=Command)
@click.option(
    "--ablate",
    "parts",
    type=NAMES,
    required=True,
    metavar="NAMES",
    help="Parts to take out, with commas between: sections such as progressive, or keys such as "
    "alpha, which get their defaults.",
)
@click.option("--factorial", is_flag=True, help="Take out every combination of them.")
@base_options
@study_options("ablation.study")
@metric_options
@common_options
def ablation(out: Output, base, parts, factorial, metric, goal, seeds, place, csv, live) -> None:
    """Run a distillation whole and without parts of it, and compare these with the whole.

    \b
    Examples:
      entrenar-bench ablation --base-config distill.yaml --ablate progressive,alpha \\
        --output ablation.csv
    """
    from entrenar_bench.ablation import FULL, ablation_arms, factorial_arms
    from entrenar_bench.conduct import Inquiry

    arms = (factorial_arms if factorial else ablation_arms)(base, parts)
    asked = Inquiry("Ablation", arms, seeds, metric, goal, baseline=FULL)
    show(out, asked, place, csv, "entrenar.bench.ablation/1", live=live)
