"""The command line of entrenar-bench."""

from __future__ import annotations

import click

from entrenar_bench import (
    __version__,
    ablation_command,
    compare_command,
    profile_command,
    report_command,
    sweep_command,
    temperature_command,
)
from entrenar_common.cli import EXIT_FINDING, Output, common_options, tool


@tool("entrenar-bench", version=__version__)
def main() -> None:
    """Compare trainings over several seeds, with statistics that hold for few runs."""


@main.command()
@common_options
def hardware(out: Output) -> None:
    """Measure what this machine can do at most: float32 products and copies in memory."""
    from entrenar_bench.hardware import measure

    out.emit(measure(), schema="entrenar.bench.hardware/1")


@main.command()
@click.option(
    "--simulate",
    type=click.IntRange(50, 100_000),
    default=500,
    metavar="N",
    help="Simulated studies of each kind.",
)
@click.option("--seed", type=click.IntRange(0), default=0, help="Seed of what is drawn.")
@click.option(
    "--pipeline",
    is_flag=True,
    help="Also train tiny students, the same arm several times and a weaker one, and compare them.",
)
@common_options
def selftest(out: Output, simulate: int, seed: int, pipeline: bool) -> int | None:
    """Try the statistics on simulated studies: how often they are wrong, and what they find.

    Ends with exit code 1 if a share is not what it has to be.
    """
    from functools import partial

    from entrenar_bench.same_arms import try_same_arms
    from entrenar_bench.selftest import self_test

    progress = out.progress()
    real = partial(try_same_arms, seed=seed, progress=progress) if pipeline else None
    found = self_test(simulate, seed=seed, progress=progress, real=real)
    out.emit(found, schema="entrenar.bench.selftest/1")
    return None if found.passed else EXIT_FINDING


main.add_command(profile_command.profile)
main.add_command(report_command.report)
main.add_command(temperature_command.temperature)
main.add_command(sweep_command.sweep)
main.add_command(compare_command.compare)
main.add_command(ablation_command.ablation)
