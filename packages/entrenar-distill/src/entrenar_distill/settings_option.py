"""The option --set, which several commands have."""

from __future__ import annotations

import click


def _settings(_context: click.Context, _option: click.Option, values: tuple[str, ...]):
    pairs = [value.partition("=") for value in values]
    for (key, separator, _), value in zip(pairs, values, strict=True):
        if not separator or not key:
            raise click.BadParameter(f"{value!r} is not KEY=VALUE, such as training.epochs=3")
    return [(key, text) for key, _, text in pairs]


set_option = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    callback=_settings,
    help="Change one key of the configuration, such as training.epochs=3. Repeatable.",
)
"""Gives a command `overrides`, pairs of a dotted key and its value as text."""

precision_option = click.option(
    "--mixed-precision",
    type=click.Choice(["fp32", "bf16", "fp16", "auto"]),
    help="What matrices are multiplied in: training.mixed_precision.",
)


def with_precision(
    overrides: list[tuple[str, str]], mixed_precision: str | None
) -> list[tuple[str, str]]:
    """`overrides` after the one that --mixed-precision is, if it was given."""
    if mixed_precision is None:
        return overrides
    return [("training.mixed_precision", mixed_precision), *overrides]
