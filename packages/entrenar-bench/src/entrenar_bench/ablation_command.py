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
@click.option(
    "--factorial",
    is_flag=True,
    help="Take out every combination of them, and show what each does and what they do together.",
)
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
    from entrenar_bench.ablation import FULL, ablation_arms, factorial_arms, taken_out
    from entrenar_bench.conduct import Inquiry
    from entrenar_bench.study import Search

    if factorial:
        arms = factorial_arms(base, parts)
        search = Search(tuple(parts), "every combination taken out", taken_out=taken_out(parts))
    else:
        arms, search = ablation_arms(base, parts), Search(tuple(parts), "one taken out at a time")
    asked = Inquiry("Ablation", arms, seeds, metric, goal, baseline=FULL, search=search)
    show(out, asked, place, csv, "entrenar.bench.ablation/1", live=live)
