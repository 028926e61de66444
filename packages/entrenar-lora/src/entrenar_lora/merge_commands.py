"""The command `merge`."""

from __future__ import annotations

import math

import click

from entrenar_common.cli import SIZE, Command, Output, common_options

OF_ADAPTERS = ["linear", "cat", "svd", "ties", "dare"]
OF_MODELS = [
    "linear", "task_arithmetic", "slerp", "nuslerp", "multislerp", "ties", "dare_linear",
    "dare_ties", "breadcrumbs", "breadcrumbs_ties", "della", "della_linear", "model_stock", "sce",
    "karcher", "arcee_fusion", "nearswap", "passthrough",
]  # fmt: skip
"""What `entrenar_core.merge` has, said here since it is slow to import; a test compares them."""


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
    "--config",
    metavar="FILE",
    help="Merge of models as mergekit's YAML describes it.",
)
@click.option(
    "--model",
    "models",
    metavar="PATH",
    multiple=True,
    help="Model to merge with others: a folder, a file, a name on the hub, or MODEL+ADAPTER. "
    "Repeatable.",
)
@click.option(
    "--base",
    metavar="PATH",
    help="Model to merge adapters into, or that models are compared with: a folder, a file of "
    "tensors (.safetensors, .bin) or a GGUF file.",
)
@click.option(
    "--adapter",
    "adapters",
    metavar="PATH",
    multiple=True,
    help="Adapter: a folder, a file of tensors with its adapter_config.json beside it, or JSON. "
    "Repeatable.",
)
@click.option(
    "--weights",
    metavar="NUMBERS",
    callback=_numbers,
    help="What each adapter's update, or each model, counts, such as 0.7,0.3.  [default: 1 for "
    "each]",
)
@click.option(
    "--method",
    type=click.Choice(list(dict.fromkeys([*OF_ADAPTERS, *OF_MODELS]))),
    metavar="NAME",
    help="How adapters are combined: linear (the default), cat (keeps every direction), svd (cuts "
    f"to a rank), ties, dare. How models are: {', '.join(OF_MODELS)}.",
)
@click.option(
    "--t", type=float, help="How far slerp goes from the first model, 0, to the other, 1."
)
@click.option(
    "--set",
    "settings",
    metavar="NAME=VALUE",
    multiple=True,
    help="Another parameter of a method for models, such as lambda=0.8. Repeatable.",
)
@click.option(
    "--semantics",
    type=click.Choice(["mergekit", "paper", "peft"]),
    help="Whose definition of ties and dare models are merged by.  [default: mergekit]",
)
@click.option(
    "--tokenizer-source",
    metavar="SOURCE",
    help="Whose tokens merged models have: union, base, or one of the models.",
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
    help="Share of elements that are kept: of adapters by ties (0.2) and dare (0.5), of models by "
    "all methods that trim (1).",
)
@click.option("--seed", type=int, default=0, help="Seed of what is drawn.")
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
@click.option(
    "--to",
    type=click.Choice(["safetensors", "gguf"]),
    help="Kind of file that merged models are written to; by default what --output is called.",
)
@click.option("--quantize", metavar="NAME", help="Format of a GGUF file: q8_0, q4_k_m and others.")
@click.option(
    "--memory-limit",
    type=SIZE,
    metavar="SIZE",
    help="Most memory that merging models may take, such as 2GB.",
)
@click.option("--dry-run", is_flag=True, help="Show what would be done, and write nothing.")
@common_options
def merge(
    out: Output, config, models, base, adapters, weights, method, t, settings, semantics,
    tokenizer_source, rank, density, seed, scale, target, dtype, alpha, output, to, quantize,
    memory_limit, dry_run,
) -> None:  # fmt: skip
    """Merge adapters into their base model, several adapters into one, or whole models.

    Models are read and written tensor by tensor, so none is in memory as a whole.

    \b
    Examples:
      entrenar-lora merge --base ./model --adapter ./adapter --output ./merged
      entrenar-lora merge --base model.gguf --adapter ./adapter --output out.gguf
      entrenar-lora merge --adapter ./a --adapter ./b --weights 0.7,0.3 \\
          --method svd --rank 32 --output ./both
      entrenar-lora merge --method slerp --t 0.5 --model ./a --model ./b \\
          --output ./merged
      entrenar-lora merge --config mergekit.yaml --output ./merged
    """
    if output is None and not dry_run:
        raise click.UsageError("give --output, or --dry-run")
    given = click.get_current_context()
    if config is not None or models:
        _refuse(given, _OF_ADAPTERS, "is for adapters, not for models")
        _merge_models(
            out, (config, models, base, method, weights, density, t, semantics, settings, dtype,
                  tokenizer_source), output, quantization=quantize, to=to, seed=seed,
            memory_limit=memory_limit, dry_run=dry_run,
        )  # fmt: skip
        return
    if not adapters:
        raise click.UsageError("give --adapter, --model or --config")
    _refuse(given, _OF_MODELS, "is for models: give them with --model")
    wanted = weights, scale, method or "linear", rank, density, seed, alpha
    _merge_adapters(out, base, adapters, output, wanted, target, dtype, dry_run)


_OF_ADAPTERS = ("adapters", "rank", "scale", "target", "alpha")
_OF_MODELS = ("t", "settings", "semantics", "tokenizer_source", "to", "quantize", "memory_limit")
"""Options that are for one of the two alone."""


def _refuse(context: click.Context, names: tuple[str, ...], why: str) -> None:
    for option in context.command.params:
        source = context.get_parameter_source(option.name or "")
        if option.name in names and source is click.core.ParameterSource.COMMANDLINE:
            raise click.UsageError(f"{option.opts[0]} {why}")


def _merge_models(out: Output, asked, output, *, memory_limit, **how) -> None:
    from entrenar_lora.model_merging import Asked, merge_by

    report = merge_by(
        Asked(*asked), output, memory_limit=memory_limit, progress=out.progress(),
        announce=out.note, **how,
    )  # fmt: skip
    out.emit(report, schema="entrenar.lora.merge-models/1")


def _merge_adapters(out: Output, base, adapters, output, options, target, dtype, dry_run) -> None:
    from entrenar_lora.merging import Wanted, merge_adapters, merge_into_base

    wanted = Wanted(*options)
    if wanted.method not in OF_ADAPTERS:
        raise click.UsageError(f"--method {wanted.method} is for models, not for adapters")
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
