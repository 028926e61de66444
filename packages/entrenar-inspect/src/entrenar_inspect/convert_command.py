"""The command `convert`."""

from __future__ import annotations

import click

from entrenar_common.cli import Command, Output, common_options


@click.command(cls=Command)
@click.argument("model")
@click.option(
    "--to",
    type=click.Choice(["safetensors", "gguf", "apr", "pth"]),
    help="Kind of file: safetensors for transformers, GGUF for llama.cpp, pth for torch.load, APR "
    "for any program that reads JSON. By default what --output is called.",
)
@click.option(
    "--quantize",
    "quantization",
    metavar="NAME",
    help="What weights are stored as: f32, f16 or bf16; for GGUF also q8_0, q6_k, q5_k_m, q4_k_m, "
    "q4_0 and others, for APR q8_0, q4_0 and others. By default what the model is stored as.",
)
@click.option(
    "--pre",
    metavar="NAME",
    help="llama.cpp's name of the pre-tokenizer, for one that is not recognised (GGUF).",
)
@click.option(
    "--output",
    metavar="PATH",
    required=True,
    help="A file (.gguf, .apr; .safetensors or .pth for tensors alone), else a new folder with "
    "config and tokenizer.",
)
@common_options
def convert(out: Output, model, to, quantization, pre, output) -> None:
    """Write a model in another kind of file, and compare the file with the model.

    MODEL is a folder, a file (safetensors, GGUF, PyTorch, APR), or hf://org/name on the hub.
    Between safetensors, PyTorch and APR any tensors can be converted; GGUF is for models whose
    architecture is known here.

    \b
    Examples:
      entrenar-inspect convert ./model --output model.gguf --quantize q4_k_m
      entrenar-inspect convert model.gguf --to safetensors --output ./model
      entrenar-inspect convert pytorch_model.bin --output model.safetensors
    """
    from entrenar_inspect.convert import convert

    report = convert(
        model, output, to=to, quantization=quantization, pre=pre, progress=out.progress()
    )
    out.emit(report, schema="entrenar.inspect.convert/1")
