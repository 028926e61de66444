"""The commands `plan` and `compare`."""

from __future__ import annotations

import click

from entrenar_common.cli import EXIT_FINDING, MEMORY, NAMES, Command, Output, common_options
from entrenar_common.units import format_binary

_MODEL = click.option(
    "--model",
    required=True,
    help="A model folder, a config.json, a GGUF or APR file, a published name or size (llama-2-7b, "
    "7B), or a model on the hub (org/name), of which only headers are fetched.",
)
_VRAM = click.option(
    "--vram",
    type=MEMORY,
    metavar="SIZE",
    help="Memory of the GPU, such as 16GB, which is read as 16 GiB.",
)
_RAM = click.option(
    "--ram", type=MEMORY, metavar="SIZE", help="Main memory, for the engine entrenar."
)
_ENGINE = click.option(
    "--engine",
    type=click.Choice(["torch", "entrenar"]),
    help="Plan for PyTorch with PEFT and bitsandbytes on a GPU (the default with --vram), or for "
    "this library (the default with --ram).",
)
_SEQ_LEN = click.option(
    "--seq-len",
    "--sequence-length",
    "--seq",
    type=click.IntRange(1),
    default=2048,
    help="Tokens of a sequence.",
)


def _targets(default: str):
    return click.option(
        "--target-modules",
        metavar="NAMES",
        type=NAMES,
        help="Modules to adapt: names or ends of names (q_proj,v_proj), a regular expression, or "
        f"all-linear; {default}.",
    )


@click.command(cls=Command)
@_MODEL
@_VRAM
@_RAM
@click.option(
    "--method",
    type=click.Choice(["auto", "full", "lora", "qlora"]),
    default="auto",
    help="LoRA on a base in full, or QLoRA on one of few bits, or (auto) the first that fits.",
)
@click.option(
    "--batch-size",
    "--batch",
    type=click.IntRange(1),
    default=1,
    help="Sequences for each step of the optimizer; the plan says how many at once.",
)
@_SEQ_LEN
@click.option("--rank", type=click.IntRange(1), help="Rank of the adapters; else the plan's.")
@click.option("--alpha", type=float, help="Scale × rank of the adapters.  [default: 16]")
@_targets("else the plan's")
@click.option("--optimizer", metavar="NAME", help="adamw, adamw-8bit, …; else the plan's.")
@click.option(
    "--checkpointing",
    type=click.Choice(["auto", "on", "off"]),
    default="auto",
    help="Compute activations twice instead of keeping them.",
)
@_ENGINE
@common_options
def plan(
    out: Output, model, vram, ram, method, batch_size, seq_len, rank, alpha, target_modules,
    optimizer, checkpointing, engine,
) -> int | None:  # fmt: skip
    """Choose a way to fine-tune a model in the memory that there is, and say what it takes.

    \b
    Examples:
      entrenar-lora plan --model meta-llama/Llama-2-7b-hf --vram 16GB
      entrenar-lora plan --model 7B --vram 24GB --batch-size 8 --seq-len 1024
      entrenar-lora plan --model ./model --ram 16GB --method lora --rank 16
    """
    from entrenar_core.estimate.requests import engine_for
    from entrenar_lora.grid import Wanted
    from entrenar_lora.plan import no_memory, plan

    chosen, limit = engine_for(engine, vram, ram)
    wanted = Wanted(method, batch_size, seq_len, optimizer, target_modules, rank, checkpointing)
    found = plan(
        model, wanted, engine=chosen.name, limit=no_memory(limit), alpha=alpha,
        limit_text=_amount(limit, chosen.device) or "",
    )  # fmt: skip
    out.emit(found, schema="entrenar.lora.plan/1")
    return None if found.fits else EXIT_FINDING


@click.command(cls=Command)
@_MODEL
@click.option(
    "--methods",
    default="full,lora-16,lora-64,qlora-4bit",
    metavar="NAMES",
    help="full, lora-RANK, qlora-4bit, qlora-8bit, or with a rank qlora-4bit-16.",
)
@_VRAM
@_RAM
@click.option(
    "--batch-size", "--batch", type=click.IntRange(1), default=1, help="Sequences at once."
)
@_SEQ_LEN
@_targets("by default all-linear")
@click.option("--optimizer", default="adamw", metavar="NAME", help="adamw, adamw-8bit, …")
@click.option(
    "--checkpointing",
    type=click.Choice(["on", "off"]),
    default="on",
    help="Compute activations twice instead of keeping them.",
)
@click.option(
    "--results",
    type=click.Path(),
    metavar="FILE",
    help="Held-out losses of real runs, as JSON lines, to show beside the estimates.",
)
@_ENGINE
@common_options
def compare(
    out: Output, model, methods, vram, ram, batch_size, seq_len, target_modules, optimizer,
    checkpointing, results, engine,
) -> None:  # fmt: skip
    """Show what several methods of fine-tuning take, side by side.

    \b
    Examples:
      entrenar-lora compare --model 7B --methods full,lora-16,lora-64,qlora-4bit
      entrenar-lora compare --model ./model --methods lora-8,lora-64 --vram 24GB
    """
    from pathlib import Path

    from entrenar_core.estimate.requests import engine_for
    from entrenar_lora.compare import Training, compare

    chosen, limit = engine_for(engine, vram, ram)
    training = Training(
        batch_size, seq_len, optimizer, target_modules or ("all-linear",), checkpointing == "on"
    )
    found = compare(
        model, methods, training, engine=chosen.name, limit=limit,
        limit_text=_amount(limit, chosen.device),
        results=None if results is None else Path(results),
    )  # fmt: skip
    out.emit(found, schema="entrenar.lora.compare/1")


def _amount(limit: int | None, device: str) -> str | None:
    """Memory as it was understood."""
    return None if limit is None else f"{format_binary(limit)} of {device}"
