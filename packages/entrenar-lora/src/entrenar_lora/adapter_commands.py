"""The commands `inspect`, `convert`, `resize` and `extract`."""

from __future__ import annotations

import click

from entrenar_common.cli import EXIT_FINDING, Command, Output, common_options

_ALPHA = click.option(
    "--alpha", type=float, help="Alpha of a file of tensors that has no config beside it."
)
_OUTPUT = click.option(
    "--output",
    metavar="PATH",
    required=True,
    help="A folder as PEFT's, or a file (.safetensors, .pth, .json).",
)


@click.command(cls=Command)
@click.argument("adapter")
@click.argument("other", required=False)
@click.option(
    "--base", metavar="PATH", help="Its base model: norms are then given relative to the weights'."
)
@_ALPHA
@click.option("--all", "every_module", is_flag=True, help="List every module, not their kinds.")
@common_options
def inspect(out: Output, adapter, other, base, alpha, every_module) -> int | None:
    """Show what is in an adapter: ranks that are used, norms, what is wrong.

    Given a second adapter, also how much their updates have in common. Ends with 1 if config and
    tensors contradict each other, or numbers are not finite.

    \b
    Examples:
      entrenar-lora inspect ./adapter
      entrenar-lora inspect ./adapter --base ./model --all
      entrenar-lora inspect ./one ./other
    """
    from entrenar_lora.inspecting import inspect

    report = inspect(
        adapter, other, base=base, alpha=alpha, every_module=every_module, progress=out.progress()
    )
    out.emit(report, schema="entrenar.lora.inspect/1")
    return None if report.is_sound else EXIT_FINDING


@click.command(cls=Command)
@click.argument("adapter")
@click.option(
    "--to",
    "form",
    required=True,
    type=click.Choice(["safetensors", "pth", "json", "gguf"]),
    help="safetensors and pth for PEFT, JSON for any program, GGUF for llama.cpp.",
)
@click.option(
    "--output",
    metavar="PATH",
    required=True,
    help="A file; for safetensors and pth, else a folder as PEFT's.",
)
@click.option(
    "--base",
    metavar="PATH",
    help="Its base model, for GGUF: a folder with the config.json, or a GGUF file. By default the "
    "folder that the adapter names.",
)
@_ALPHA
@common_options
def convert(out: Output, adapter, form, output, base, alpha) -> None:
    """Write an adapter in another file format.

    \b
    Examples:
      entrenar-lora convert ./adapter --to json --output adapter.json
      entrenar-lora convert adapter.pth --alpha 16 --to safetensors --output ./adapter
      entrenar-lora convert ./adapter --to gguf --base ./model --output adapter.gguf
    """
    from entrenar_lora.adapter_files import convert_adapter

    report = convert_adapter(adapter, output, form=form, base=base, alpha=alpha)
    out.emit(report, schema="entrenar.lora.convert/1")


@click.command(cls=Command)
@click.argument("adapter")
@click.option("--rank", type=click.IntRange(1), help="Rank that every module is cut to.")
@click.option(
    "--energy",
    type=float,
    metavar="SHARE",
    help="Cut each module to the least rank with this share of its energy, such as 0.95.",
)
@_ALPHA
@_OUTPUT
@common_options
def resize(out: Output, adapter, rank, energy, alpha, output) -> None:
    """Give an adapter a smaller rank, and say what that loses.

    \b
    Examples:
      entrenar-lora resize ./adapter --rank 8 --output ./smaller
      entrenar-lora resize ./adapter --energy 0.95 --output ./smaller
    """
    if (rank is None) == (energy is None):
        raise click.UsageError("give one of --rank and --energy")
    from entrenar_lora.adapter_files import resize_adapter

    report = resize_adapter(
        adapter, output, rank=rank, energy=energy, alpha=alpha, progress=out.progress()
    )
    out.emit(report, schema="entrenar.lora.resize/1")


@click.command(cls=Command)
@click.option("--base", metavar="PATH", required=True, help="Model that was fine-tuned.")
@click.option("--tuned", metavar="PATH", required=True, help="Model that came of it.")
@click.option("--rank", type=click.IntRange(1), required=True, help="Rank of the updates.")
@_OUTPUT
@common_options
def extract(out: Output, base, tuned, rank, output) -> None:
    """Make an adapter of the difference of two models.

    Matrices of projections become updates of the rank; norms, biases, embeddings and the output's
    projection are kept whole where they differ.

    \b
    Example:
      entrenar-lora extract --base ./model --tuned ./tuned --rank 32 --output ./adapter
    """
    from entrenar_lora.adapter_files import extract_adapter

    report = extract_adapter(base, tuned, output, rank=rank, progress=out.progress())
    out.emit(report, schema="entrenar.lora.extract/1")
