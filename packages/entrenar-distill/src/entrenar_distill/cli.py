"""The command line of entrenar-distill."""

from __future__ import annotations

import click

from entrenar_common.cli import Output, common_options, tool
from entrenar_distill import __version__


@tool("entrenar-distill", version=__version__)
def main() -> None:
    """Distil a language model into a smaller one, and measure what that brought."""


def _settings(_context: click.Context, _option: click.Option, values: tuple[str, ...]):
    pairs = [value.partition("=") for value in values]
    for (key, separator, _), value in zip(pairs, values, strict=True):
        if not separator or not key:
            raise click.BadParameter(f"{value!r} is not KEY=VALUE, such as training.epochs=3")
    return [(key, text) for key, _, text in pairs]


@main.command()
@click.option("--config", type=click.Path(), help="YAML file with the whole configuration.")
@click.option("--teacher", help="Teacher: a model folder, or a model on the hub (org/name).")
@click.option("--student", help="Student: a model folder, or a model on the hub (org/name).")
@click.option("--output", help="Folder of the student and the report.")
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    callback=_settings,
    help="Change one key of the configuration, such as training.epochs=3. Repeatable.",
)
@click.option(
    "--control/--no-control",
    default=None,
    help="Also train the same student without the teacher, to measure what it brought.",
)
@click.option(
    "--resume",
    default="never",
    show_default=True,
    metavar="never|auto|CHECKPOINT",
    help="Go on with the run in the output folder: from its newest checkpoint if it has one "
    "(auto), or from the one given.",
)
@click.option("--dry-run", is_flag=True, help="Check everything and show the plan; train nothing.")
@common_options
def run(out: Output, config, teacher, student, output, overrides, control, resume, dry_run) -> None:
    """Train a student on its teacher's predictions; write it with a report.

    The configuration is a YAML file; docs/config.md describes all of its keys, and --set changes
    any of them. The options win over the file, and --set over the options.

    \b
    Examples:
      entrenar-distill run --config distill.yaml --dry-run
      entrenar-distill run --config distill.yaml --set distillation.alpha=0.7
      entrenar-distill run --config distill.yaml --resume auto
    """
    from entrenar_distill import pipeline
    from entrenar_distill.config import resolve

    settings = {"teacher": teacher, "student": student, "output": output, "control": control}
    resolved = resolve(config, **settings, overrides=overrides)
    if dry_run:
        found = pipeline.plan(resolved, resume=resume, progress=out.progress())
        out.emit(found, schema="entrenar.distill.plan/1")
        return
    report = pipeline.run(resolved, resume=resume, progress=out.progress(), warn=out.warn)
    out.emit(report, schema="entrenar.distill.run/1")
