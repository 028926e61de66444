"""The command line of entrenar-distill."""

from __future__ import annotations

import click

from entrenar_common.cli import SIZE, Output, common_options, live_option, tool
from entrenar_distill import (
    __version__,
    cache_command,
    estimate_command,
    evaluate_command,
    generate_command,
    train_command,
    validate_command,
)
from entrenar_distill.settings_option import precision_option, set_option, with_precision


@tool("entrenar-distill", version=__version__)
def main() -> None:
    """Distil a language model into a smaller one, and measure what that brought."""


@main.command()
@click.option("--config", type=click.Path(), help="YAML file with the whole configuration.")
@click.option("--teacher", help="Teacher: a model folder, a GGUF or APR file, or org/name.")
@click.option("--student", help="Student: a model folder, or a model on the hub (org/name).")
@click.option("--output", help="Folder of the student and the report.")
@set_option
@precision_option
@click.option(
    "--control/--no-control",
    default=None,
    help="Also train the same student without the teacher, to measure what it brought.",
)
@click.option(
    "--resume",
    default="never",
    show_default=True,
    metavar="never|auto|CHECKPOINT",
    help="Go on with the run in the output folder: from its newest checkpoint if it has one "
    "(auto), or from the one given.",
)
@click.option("--dry-run", is_flag=True, help="Check everything and show the plan; train nothing.")
@live_option
@common_options
def run(
    out: Output, config, teacher, student, output, overrides, mixed_precision, control, resume,
    dry_run, live,
) -> None:  # fmt: skip
    """Train a student on its teacher's predictions; write it with a report.

    The configuration is a YAML file; docs/config.md describes all of its keys, and --set changes
    any of them. The options win over the file, and --set over the options.

    \b
    Examples:
      entrenar-distill run --config distill.yaml --dry-run
      entrenar-distill run --config distill.yaml --set distillation.alpha=0.7
      entrenar-distill run --config distill.yaml --resume auto
    """
    from entrenar_core.train.display import shown
    from entrenar_distill import pipeline
    from entrenar_distill.config import resolve

    settings = {"teacher": teacher, "student": student, "output": output, "control": control}
    overrides = with_precision(overrides, mixed_precision)
    resolved = resolve(config, **settings, overrides=overrides)
    if dry_run:
        found = pipeline.plan(resolved, resume=resume, progress=out.progress())
        out.emit(found, schema="entrenar.distill.plan/1")
        return
    callbacks = shown(out.live() if live else None)
    report = pipeline.run(
        resolved, resume=resume, progress=out.progress(), warn=out.warn, callbacks=callbacks
    )
    out.emit(report, schema=report.SCHEMA)


@main.command()
@click.option(
    "--input",
    "source",
    required=True,
    help="Model: a folder, a GGUF or APR file, or org/name.",
)
@click.option(
    "--format",
    "form",
    required=True,
    type=click.Choice(["gguf", "safetensors", "apr"]),
    help="File format to write: GGUF for llama.cpp, safetensors for transformers, APR for any "
    "program that reads JSON.",
)
@click.option(
    "--output",
    required=True,
    help="File (.gguf, .apr; .safetensors for the tensors alone), or a new folder (safetensors).",
)
@click.option(
    "--quantize",
    "quantization",
    metavar="NAME",
    help="What weights are stored as: f32, f16 or bf16; for GGUF also q8_0, q6_k, q5_k_m, q4_k_m, "
    "q4_0 and others, for APR q8_0, q4_0 and others. By default what the model is stored as.",
)
@click.option(
    "--max-size",
    "max_bytes",
    type=SIZE,
    metavar="SIZE",
    help="Choose formats so that a GGUF file is no larger, such as 40MB; with --calibrate.",
)
@click.option(
    "--calibrate",
    multiple=True,
    metavar="PATH",
    help="Text that says which weights matter, for --max-size: a file, or a pattern in quotes. "
    "Repeatable.",
)
@click.option(
    "--pre",
    metavar="NAME",
    help="llama.cpp's name of the pre-tokenizer, for one that is not recognised (GGUF).",
)
@click.option(
    "--eval-data",
    multiple=True,
    metavar="PATH",
    help="Text to measure the perplexity on, before and after: a file, or a pattern in quotes. "
    "Repeatable.",
)
@click.option("--seq-len", default=512, show_default=True, help="Tokens of a window of that text.")
@click.option(
    "--include-metadata",
    is_flag=True,
    help="Write where the model comes from beside it, as provenance.json: hashes of all files, and "
    "the configuration and the scores of the run that trained it.",
)
@common_options
def export(
    out: Output, source, form, output, quantization, max_bytes, calibrate, pre, eval_data, seq_len,
    include_metadata,
) -> None:  # fmt: skip
    """Write a model in another file format, and compare the file with the model.

    \b
    Examples:
      entrenar-distill export --input ./student --format gguf --quantize q4_k_m \\
          --output student-q4_k_m.gguf --eval-data held-out.txt
      entrenar-distill export --input model.gguf --format safetensors --output ./model
    """
    from entrenar_distill.export import export

    report = export(
        source, output, form=form, quantization=quantization, pre=pre, max_bytes=max_bytes,
        calibrate=calibrate, eval_data=eval_data, seq_len=seq_len,
        include_metadata=include_metadata, progress=out.progress(),
    )  # fmt: skip
    out.emit(report, schema="entrenar.distill.export/1")


main.add_command(train_command.train)
main.add_command(estimate_command.estimate)
main.add_command(evaluate_command.evaluate)
main.add_command(generate_command.generate)
main.add_command(cache_command.cache)
main.add_command(validate_command.validate)
