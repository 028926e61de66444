"""The command `compare`."""

from __future__ import annotations

import click

from entrenar_bench.study_options import base_options, metric_options, show, study_options
from entrenar_common.cli import NAMES, Command, Output, common_options


@click.command(cls=Command)
@click.option(
    "--strategies",
    type=NAMES,
    default="kd-only,progressive,attention,combined",
    metavar="NAMES",
    help="What to learn from besides predictions, with commas between.",
)
@click.option("--margin", type=float, help="A difference that does not matter.")
@base_options
@study_options("compare.study")
@metric_options
@common_options
def compare(out: Output, base, strategies, margin, metric, goal, seeds, place, csv, live) -> None:
    """Compare strategies of distillation with each other, all pairs of them.

    \b
    Examples:
      entrenar-bench compare --strategies kd-only,combined --config distill.yaml --runs 5
    """
    from entrenar_bench.conduct import Inquiry
    from entrenar_bench.strategies import strategy_arms
    from entrenar_bench.study import Search

    arms, notes = strategy_arms(base, strategies)
    asked = Inquiry(
        "Strategies", arms, seeds, metric, goal, margin=margin, notes=notes,
        search=Search(tuple(strategies), "all strategies that were named"),
    )  # fmt: skip
    show(out, asked, place, csv, "entrenar.bench.compare/1", live=live)
