"""The command `evaluate`."""

from __future__ import annotations

import click

from entrenar_common.cli import COUNT, Command, Output, common_options


@click.command(cls=Command)
@click.option(
    "--model",
    "models",
    multiple=True,
    required=True,
    metavar="MODEL",
    help="Model: a folder, a GGUF or APR file, or org/name. Repeatable: differences are to the "
    "first.",
)
@click.option(
    "--data",
    multiple=True,
    metavar="PATH",
    help="Text to measure on: a file, a folder, or a pattern in quotes. Repeatable.",
)
@click.option(
    "--text-field",
    metavar="NAME",
    help="Field that has the text, in .jsonl, .csv and .parquet files.  [default: text]",
)
@click.option(
    "--max-documents", type=COUNT, metavar="COUNT", help="Read this many documents at most."
)
@click.option(
    "--teacher",
    metavar="MODEL",
    help="Measure the divergence from this model's predictions, and how often they agree.",
)
@click.option("--seq-len", default=512, show_default=True, help="Tokens of a window of text.")
@click.option("--batch-size", type=int, help="Rows at a time.  [default: what makes 4096 tokens]")
@click.option(
    "--generate",
    multiple=True,
    metavar="PATH",
    help="Rows of prompts and references in .jsonl, .csv and .parquet files: have the models write "
    "after the prompts, and compare. Repeatable.",
)
@click.option("--prompt-field", metavar="NAME", help="Field of the prompt.  [default: prompt]")
@click.option(
    "--reference-field", metavar="NAME", help="Field of the reference.  [default: reference]"
)
@click.option("--max-new-tokens", type=int, help="Tokens to write at most.  [default: 64]")
@click.option(
    "--temperature", type=float, help="Draw tokens instead of taking the most likely ones."
)
@click.option(
    "--stop", multiple=True, metavar="TEXT", help="Text that ends what is written. Repeatable."
)
@click.option("--max-rows", type=COUNT, metavar="COUNT", help="Read this many rows at most.")
@click.option("--seed", default=0, show_default=True, help="Seed of intervals and of drawing.")
@common_options
def evaluate(
    out: Output, models, data, text_field, max_documents, teacher, seq_len, batch_size, generate,
    prompt_field, reference_field, max_new_tokens, temperature, stop, max_rows, seed,
) -> None:  # fmt: skip
    """Measure models on text: how well they predict it, and what they write after prompts.

    Every figure has an interval over documents or rows. docs/evaluation.md says what each of them
    is.

    \b
    Examples:
      entrenar-distill evaluate --model ./student --data 'held-out/*.txt'
      entrenar-distill evaluate --model ./student --model student-q4_0.gguf \\
          --teacher ./teacher --data held-out.jsonl
      entrenar-distill evaluate --model ./student --generate questions.jsonl \\
          --prompt-field question --reference-field answer --stop $'\\n'
    """
    from entrenar_distill.evaluate import evaluate
    from entrenar_distill.evaluate_request import documents, generation

    spec = documents(data, text_field=text_field, max_documents=max_documents)
    request = generation(
        generate, prompt_field=prompt_field, reference_field=reference_field,
        max_new_tokens=max_new_tokens, temperature=temperature, stop=stop, max_rows=max_rows,
    )  # fmt: skip
    report = evaluate(
        models, data=spec, teacher=teacher, generate=request, seq_len=seq_len,
        batch_size=batch_size, seed=seed, progress=out.progress(),
    )  # fmt: skip
    out.emit(report, schema="entrenar.distill.evaluate/1")
