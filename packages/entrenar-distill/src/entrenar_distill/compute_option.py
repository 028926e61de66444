"""The option --compute, which the commands have that use models and do not train them."""

from __future__ import annotations

import click

__all__ = ["NAMES", "compute_option"]

NAMES = ("float32", "int8")
"""Those of `COMPUTING` in `entrenar_core.models.computing`, which takes longer to import than the
help of a command may."""

compute_option = click.option(
    "--compute",
    type=click.Choice(NAMES),
    default=NAMES[0],
    show_default=True,
    help="What is computed in. int8: weights and activations are rounded to integers of 8 bits "
    "where they are multiplied; faster, and less exact.",
)
