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
