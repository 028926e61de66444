"""The command `merge`."""

from __future__ import annotations

import math

import click

from entrenar_common.cli import Command, Output, common_options

METHODS = ["linear", "cat", "svd", "ties", "dare"]


def _numbers(_context: click.Context, _option: click.Option, value: str | None):
    if value is None:
        return None
    try:
        found = tuple(float(part) for part in value.split(","))
    except ValueError:
        raise click.BadParameter(f"{value!r} is not numbers, write it like 0.7,0.3") from None
    if not all(map(math.isfinite, found)):
        raise click.BadParameter(f"{value!r} is not finite")
    return found


@click.command(cls=Command)
@click.option(
    "--base",
    metavar="PATH",
    help="Model to merge into: a folder, a file of tensors (.safetensors, .bin) or a GGUF file.",
)
@click.option(
    "--adapter",
    "adapters",
    metavar="PATH",
    multiple=True,
    required=True,
    help="Adapter: a folder, a file of tensors with its adapter_config.json beside it, or JSON. "
    "Repeatable.",
)
@click.option(
    "--weights",
    metavar="NUMBERS",
    callback=_numbers,
    help="What each adapter's update is multiplied by, such as 0.7,0.3.  [default: 1 for each]",
)
@click.option(
    "--method",
    type=click.Choice(METHODS),
    default="linear",
    help="How updates are combined: their weighted sum (linear; cat keeps every direction, svd "
    "cuts it to a rank), or by ties or dare.",
)
@click.option(
    "--rank",
    type=click.IntRange(1),
    help="Rank that the sum is cut to; by default none, or, where a method needs one, the "
    "largest of the adapters'.",
)
@click.option(
    "--density",
    type=float,
    help="Share of elements that ties (0.2) and dare (0.5) keep.",
)
@click.option("--seed", type=int, default=0, help="Seed of what dare keeps.")
@click.option("--scale", type=float, default=1.0, help="Factor of all updates; -1 takes them out.")
@click.option(
    "--as",
    "target",
    type=click.Choice(["adapter", "model"]),
    help="Merge into the base, or make one adapter of several; by default into the base if there "
    "is one.",
)
@click.option(
    "--dtype",
    metavar="NAME",
    help="Type of the weights: f32, f16, bf16; for GGUF also q8_0, q4_k_m and others. By default "
    "each as it is in the base.",
)
@click.option("--alpha", type=float, help="Alpha of adapters that are files without a config.")
@click.option(
    "--output",
    metavar="PATH",
    help="What is written: a folder, or a file (.safetensors, .bin, .gguf; of adapters .json too).",
)
@click.option("--dry-run", is_flag=True, help="Show every tensor that changes, and write nothing.")
@common_options
def merge(
    out: Output, base, adapters, weights, method, rank, density, seed, scale, target, dtype, alpha,
    output, dry_run,
) -> None:  # fmt: skip
    """Merge adapters into their base model, or several adapters into one.

    The base is read and written tensor by tensor, so it never is in memory as a whole.

    \b
    Examples:
      entrenar-lora merge --base ./model --adapter ./adapter --output ./merged
      entrenar-lora merge --base model.gguf --adapter ./adapter --output out.gguf
      entrenar-lora merge --adapter ./a --adapter ./b --weights 0.7,0.3 \\
          --method svd --rank 32 --output ./both
    """
    from entrenar_lora.merging import Wanted, merge_adapters, merge_into_base

    if output is None and not dry_run:
        raise click.UsageError("give --output, or --dry-run")
    wanted = Wanted(weights, scale, method, rank, density, seed, alpha)
    if (target or ("model" if base else "adapter")) == "model":
        if base is None:
            raise click.UsageError("--as model needs --base")
        report = merge_into_base(
            base, adapters, output, wanted, dtype=dtype, dry_run=dry_run, progress=out.progress()
        )
        out.emit(report, schema="entrenar.lora.merge/1")
        return
    if dtype is not None:
        raise click.UsageError("--dtype is for models: adapters are written as float32")
    joined = merge_adapters(
        adapters, output, wanted, base=base, dry_run=dry_run, progress=out.progress()
    )
    out.emit(joined, schema="entrenar.lora.join/1")
