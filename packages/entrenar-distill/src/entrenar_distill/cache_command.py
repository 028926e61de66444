"""The command `cache`."""

from __future__ import annotations

import click

from entrenar_common.cli import Command, Output, common_options
from entrenar_common.errors import UsageError


@click.command(cls=Command)
@click.option("--config", type=click.Path(), help="YAML file with the whole configuration.")
@click.option(
    "--output", metavar="DIR", help="Folder of the cache.  [default: the config's teacher.cache]"
)
@click.option(
    "--mass",
    type=float,
    default=0.99,
    show_default=True,
    help="Keep the likeliest ids that together have this probability, at temperature 1.",
)
@click.option("--max-k", type=int, default=512, show_default=True, help="Keep so many ids at most.")
@click.option(
    "--temperature",
    "temperatures",
    type=float,
    multiple=True,
    help="Temperature that a run may have. Repeatable.  [default: that of the config, and 1]",
)
@click.option(
    "--precision",
    type=click.Choice(["float16", "float32"]),
    default="float16",
    show_default=True,
    help="What is stored of a kept id's logit.",
)
@click.option("--dry-run", is_flag=True, help="Check everything and show the plan; write nothing.")
@common_options
def cache(
    out: Output, config, output, mass, max_k, temperatures, precision, dry_run
) -> None:  # fmt: skip
    """Write what the teacher predicts for the training text, to train without the teacher.

    A run with `teacher.cache: DIR` then reads these predictions, and has the teacher's model in
    memory only to measure it. Of each token the likeliest ids are kept, and the probability of all
    others as one, exactly for each temperature. A cache is bound to the teacher, tokenizer, text,
    its split and its layout: a run with others refuses it. What was interrupted goes on where it
    stopped when the command is given again. docs/teacher-cache.md has the format.

    Compared with the teacher afterwards, on a sample of rows: `outcomes` is KL(teacher || cache)
    over what a student is compared on, the kept ids and the rest as one, and `spread` is KL(teacher
    || p), p having the rest evenly on the ids that were left out.

    \b
    Examples:
      entrenar-distill cache --config distill.yaml --output predictions --dry-run
      entrenar-distill cache --config distill.yaml --output predictions --mass 0.95 --max-k 64
      entrenar-distill run --config distill.yaml --set teacher.cache=predictions
    """
    from entrenar_distill import caching
    from entrenar_distill.config import resolve

    resolved = resolve(config)
    folder = output or resolved.teachers[0].cache
    if folder is None:
        raise UsageError(
            "there is no folder to write to", hint="give --output, or teacher.cache in the config"
        )
    settings = caching.settings(
        resolved, mass=mass, max_k=max_k, temperatures=temperatures, precision=precision
    )
    job = caching.Caching(resolved, folder, settings, progress=out.progress())
    if dry_run:
        out.emit(job.plan, schema="entrenar.distill.cache-plan/1")
        return
    out.note(job.plan.in_a_line())
    out.emit(job.run(), schema="entrenar.distill.cache/1")
