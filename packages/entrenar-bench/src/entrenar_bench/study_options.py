"""The options that the commands share which run studies, and how their results are shown."""

from __future__ import annotations

import functools
import shlex
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from entrenar_common.cli import Output
from entrenar_common.errors import InterruptedRun
from entrenar_distill.settings_option import set_option

if TYPE_CHECKING:
    from entrenar_bench.conduct import Inquiry
    from entrenar_bench.place import Place

__all__ = ["base_options", "confirm_option", "metric_options", "show", "study_options"]


Option = Callable[[Callable[..., Any]], Callable[..., Any]]


def base_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options of a distillation, as `base`."""

    @functools.wraps(function)
    def command(*, config, teacher, student, overrides, epochs, **values: Any) -> Any:
        from entrenar_bench.base import Base

        base = Base(config, teacher, student, tuple(overrides)).for_epochs(epochs)
        return function(base=base, **values)

    return _with_options(command, _BASE)


def metric_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command what arms are compared on, as `metric` and `goal`."""
    return _with_options(function, _METRIC)


def study_options(default: str) -> Option:
    """Give a command the options of a study, whose file is `default` unless given, as `seeds`, as
    `place` and as `csv`."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def command(*, seeds, jobs, study, allow_change, retry_failed, output, **values) -> Any:
            from entrenar_bench.place import Place
            from entrenar_bench.sweeping import seeds_of

            place = Place(study, jobs, allow_change, retry_failed)
            return function(seeds=seeds_of(seeds), place=place, csv=output, **values)

        return _with_options(command, _study(default))

    return decorate


def show(
    out: Output, inquiry: Inquiry, place: Place, csv: Path | None, schema: str, *, live: bool
) -> None:
    """Run what is asked, print what came of it, and raise SweepError where runs failed."""
    from entrenar_bench.conduct import conduct
    from entrenar_bench.watching.choice import watch_of

    inquiry = replace(inquiry, search=replace(inquiry.search, command=shlex.join(out.words)))
    screen = out.screen() if live else None
    watch = watch_of(out, screen, metric=inquiry.metric, goal=inquiry.goal)
    try:
        summary, done = conduct(inquiry, place, csv=csv, watch=watch)
    except InterruptedRun as error:
        raise InterruptedRun(error.message, hint=f"go on with: {_again(out.words)}") from error
    out.emit(summary, schema=schema)
    for runs in done:
        runs.check_whole()


def _again(words: Sequence[str]) -> str:
    """The command that goes on: failed runs that were to be done again wait by now."""
    return shlex.join(word for word in words if word != "--retry-failed")


def _with_options(function: Callable[..., Any], options: Sequence[Option]) -> Callable[..., Any]:
    for option in reversed(options):
        function = option(function)
    return function


_BASE: tuple[Option, ...] = (
    click.option(
        "--config",
        "--base-config",
        "config",
        type=click.Path(),
        help="YAML file of the distillation that arms are variants of.",
    ),
    click.option("--teacher", help="Teacher: a model folder, a GGUF or APR file, or org/name."),
    click.option("--student", help="Student: a model folder, or a model on the hub (org/name)."),
    set_option,
    click.option("--epochs", type=click.IntRange(1), help="Passes over the data of each run."),
)

_METRIC: tuple[Option, ...] = (
    click.option("--metric", default="loss", help="Figure of the runs that is compared."),
    click.option(
        "--goal",
        type=click.Choice(["lower", "higher"]),
        default="lower",
        help="Which values of the figure are better.",
    ),
)

confirm_option = click.option(
    "--confirm",
    type=click.IntRange(0),
    default=0,
    metavar="N",
    help="Then run the best and the baseline with N fresh seeds, and compare them on these.",
)


def _study(default: str) -> tuple[Option, ...]:
    return (
        click.option(
            "--seeds",
            "--runs",
            "seeds",
            default="5",
            metavar="N|A..B",
            help="Seeds that every arm is run with: so many, or these.",
        ),
        click.option("--jobs", type=click.IntRange(1), default=1, help="Runs at a time."),
        click.option(
            "--study",
            type=click.Path(path_type=Path, dir_okay=False),
            default=default,
            metavar="FILE",
            help="Where runs are kept; the same command goes on with them.",
        ),
        click.option(
            "--allow-change",
            is_flag=True,
            help="Go on with a study of other arms or seeds: runs that are the same are kept.",
        ),
        click.option(
            "--live",
            is_flag=True,
            help="Show the study on the whole terminal meanwhile: arms, what runs, curves.",
        ),
        click.option("--retry-failed", is_flag=True, help="Do runs that failed again."),
        click.option(
            "--output",
            type=click.Path(path_type=Path, dir_okay=False),
            metavar="FILE",
            help="Also write a CSV table with a row for each run.",
        ),
    )
