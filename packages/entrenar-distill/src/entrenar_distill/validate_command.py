"""The command `validate`."""

from __future__ import annotations

import sys

import click

from entrenar_common.cli import EXIT_FINDING, Command, Output, common_options
from entrenar_distill.settings_option import set_option


@click.command(cls=Command)
@click.option(
    "--config", required=True, type=click.Path(), help="YAML file with the whole configuration."
)
@set_option
@click.option(
    "--self-check",
    is_flag=True,
    help="Also try the loss on the first rows: gradients beside differences, accumulation, "
    "padding, causality, masks.",
)
@common_options
def validate(out: Output, config, overrides, self_check) -> int | None:
    """Say whether a configuration can be run: models, vocabularies, data, steps, output and disk.

    All that is wrong is shown at once, and nothing is trained. It ends with exit code 1 where
    something is wrong. docs/validation.md says what is looked at.

    \b
    Examples:
      entrenar-distill validate --config distill.yaml
      entrenar-distill validate --config distill.yaml --self-check --json
    """
    from entrenar_distill.check import marks_for
    from entrenar_distill.validation import Shown
    from entrenar_distill.validation import validate as validation_of

    found = validation_of(
        config, overrides=overrides, self_check=self_check, progress=out.progress()
    )
    shown = found if out.json else Shown(found, marks_for(sys.stdout.encoding))
    out.emit(shown, schema="entrenar.distill.validate/1")
    return None if found.valid else EXIT_FINDING
