"""The command `memory`."""

from __future__ import annotations

import click

from entrenar_common.cli import EXIT_FINDING, MEMORY, NAMES, Command, Output, common_options
from entrenar_common.units import format_binary


@click.command(cls=Command)
@click.argument("model")
@click.option(
    "--batch-size", "--batch", type=click.IntRange(1), default=1, help="Sequences at once."
)
@click.option(
    "--seq-len",
    "--sequence-length",
    "--seq",
    type=click.IntRange(1),
    help="Tokens of a sequence, the generated ones included.  [default: 2048, or as many positions "
    "as the model has learned]",
)
@click.option("--optimizer", default="adamw", metavar="NAME", help="adamw, adamw-8bit, lion, …")
@click.option(
    "--precision",
    metavar="NAME",
    help="What the weights are kept in: fp32, bf16, int8 or nf4; else what the engine prefers.",
)
@click.option(
    "--method",
    type=click.Choice(["full", "lora", "qlora"]),
    help="How the model is trained; else what the other options are for.",
)
@click.option("--rank", type=click.IntRange(1), help="Rank of the adapters.  [default: 16]")
@click.option(
    "--target-modules",
    metavar="NAMES",
    type=NAMES,
    help="Modules to adapt: names or ends of names (q_proj,v_proj), a regular expression, or "
    "all-linear, which is the default.",
)
@click.option(
    "--checkpointing",
    type=click.Choice(["on", "off"]),
    default="off",
    help="Compute activations twice instead of keeping them.",
)
@click.option(
    "--engine",
    type=click.Choice(["torch", "entrenar"]),
    help="PyTorch with transformers, PEFT and bitsandbytes on a GPU (the default), or this library "
    "(the default with --ram and --measure).",
)
@click.option(
    "--vram",
    type=MEMORY,
    metavar="SIZE",
    help="Memory of the GPU, such as 16GB, which is read as 16 GiB: what fits into it?",
)
@click.option(
    "--ram", type=MEMORY, metavar="SIZE", help="Main memory, for the engine entrenar: what fits?"
)
@click.option(
    "--measure",
    is_flag=True,
    help="Run and train the model at this size, with this library, and show what it really took.",
)
@common_options
def memory(
    out: Output, model, batch_size, seq_len, optimizer, precision, method, rank, target_modules,
    checkpointing, engine, vram, ram, measure,
) -> int | None:  # fmt: skip
    """Say how much memory it takes to run MODEL and to train it, term by term.

    MODEL is a folder, a config.json, a GGUF or APR file, a published name or size (llama-2-7b, 7B),
    or a model on the hub (org/name, hf://org/name@revision), of which only headers are fetched.
    Ends with 1 where neither fits the memory that is stated.

    \b
    Examples:
      entrenar-inspect memory 7B --batch-size 4 --vram 24GB
      entrenar-inspect memory ./model --method lora --rank 16 --ram 16GB
      entrenar-inspect memory smollm2-135m --seq-len 512 --measure
    """
    from entrenar_core.estimate.requests import engine_for
    from entrenar_inspect.memory import Request, memory_report, plan_of, shape_of, stored_precision

    engine = engine or ("entrenar" if measure and vram is None else None)
    chosen, limit = engine_for(engine, vram, ram)
    request = Request(
        batch_size, seq_len, optimizer, precision, method, rank, target_modules,
        checkpointing == "on",
    )  # fmt: skip
    shape = shape_of(model)
    setup, inference = plan_of(shape, chosen, request, stored=stored_precision(model, shape))
    report = memory_report(
        shape, chosen, setup, inference, limit=limit,
        limit_text=None if limit is None else f"{format_binary(limit)} of {chosen.device}",
    )  # fmt: skip
    if measure:
        from entrenar_inspect.memory_measure import measured

        report = measured(
            report, model, shape, engine=chosen, setup=setup, inference=inference,
            progress=out.progress(),
        )  # fmt: skip
    out.emit(report, schema="entrenar.inspect.memory/1")
    return EXIT_FINDING if report.nothing_fits else None
