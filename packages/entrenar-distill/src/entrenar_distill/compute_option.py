"""The option --compute, which the commands have that use models and do not train them."""

from __future__ import annotations

import click

__all__ = ["NAMES", "compute_option"]

NAMES = ("float32", "bf16", "int8")
"""Those of `COMPUTING` in `entrenar_core.models.computing`, which takes longer to import than the
help of a command may."""

compute_option = click.option(
    "--compute",
    type=click.Choice(NAMES),
    default=NAMES[0],
    show_default=True,
    help="What matrices are multiplied in: weights and activations are rounded there to bfloat16 "
    "(bf16) or to integers of 8 bits (int8); faster, and less exact.",
)
