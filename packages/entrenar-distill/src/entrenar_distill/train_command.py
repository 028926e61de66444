"""The command `train`."""

from __future__ import annotations

import json

import click

from entrenar_common.cli import Command, Output, common_options, live_option
from entrenar_common.errors import UsageError
from entrenar_distill.settings_option import precision_option, set_option, with_precision


@click.command(cls=Command)
@click.option("--config", type=click.Path(), help="YAML file with the whole configuration.")
@set_option
@precision_option
@click.option("--output", help="Folder of the model and the report.")
@click.option(
    "--resume",
    default="never",
    show_default=True,
    metavar="never|auto|CHECKPOINT",
    help="Go on with the run in the output folder: from its newest checkpoint if it has one "
    "(auto), or from the one given.",
)
@click.option("--validate", is_flag=True, help="Read and check everything; train nothing.")
@click.option(
    "--find-rate",
    is_flag=True,
    help="Take 100 steps at rising learning rates, say which one the loss falls fastest at, and "
    "write nothing.",
)
@click.option("--print-schema", is_flag=True, help="Print the JSON Schema of the configuration.")
@live_option
@common_options
def train(
    out: Output, config, overrides, mixed_precision, output, resume, validate, find_rate,
    print_schema, live,
) -> None:  # fmt: skip
    """Train or fine-tune a model as one YAML file says; write it with a report.

    Text alone makes a language model; a table with labels beside its texts a classifier, or with
    numbers a regression. docs/train.md describes all keys, and --set changes any of them; without
    --config they are the whole configuration.

    \b
    Examples:
      entrenar-distill train --config train.yaml --validate
      entrenar-distill train --config train.yaml --find-rate
      entrenar-distill train --config train.yaml --set lora.rank=8 --output ./model
      entrenar-distill train --config train.yaml --resume auto
      entrenar-distill train --set model.path=./model --set data.train=texts --output ./tuned
    """
    from entrenar_core.train import declarative
    from entrenar_core.train.config import json_schema
    from entrenar_core.train.display import shown as displayed
    from entrenar_distill.train_view import Shown, plan_parts, rate_parts, report_parts

    if print_schema:
        click.echo(json.dumps(json_schema(declarative.TrainSpec), indent=2))
        return
    overrides = with_precision(overrides, mixed_precision)
    if config is None and not overrides:
        raise UsageError(
            "missing option '--config'",
            hint="give a YAML file: --config train.yaml, or all that it would say with --set",
        )
    spec = declarative.resolve(config, overrides, output=output)
    if validate:
        plan = declarative.plan(spec, resume=resume, progress=out.progress())
        shown = plan if out.json else Shown(plan_parts(plan))
        out.emit(shown, schema="entrenar.distill.train-plan/1")
        return
    if find_rate:
        rates = declarative.find_rate(spec, progress=out.progress(), warn=out.warn)
        shown = rates if out.json else Shown(rate_parts(rates))
        out.emit(shown, schema="entrenar.distill.learning-rates/1")
        return
    callbacks = displayed(out.live() if live else None)
    report = declarative.train(
        spec, resume=resume, progress=out.progress(), warn=out.warn, callbacks=callbacks
    )
    out.emit(report if out.json else Shown(report_parts(report)), schema=report.SCHEMA)
