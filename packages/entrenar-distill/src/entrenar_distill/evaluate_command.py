"""The command `evaluate`."""

from __future__ import annotations

import click

from entrenar_common.cli import COUNT, Command, Output, common_options
from entrenar_distill.compute_option import compute_option


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
    "--task",
    type=click.Choice(["causal-lm", "masked-lm", "sentence-embedding", "sequence-classification"]),
    help="What the models are measured at.  [default: what their config.json says]",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["auto", "text", "lines", "jsonl", "csv", "parquet"]),
    help="Format of the files of --data: by their suffix (auto), or for all of them; with lines, "
    "each line of a text file is a text.  [default: auto]",
)
@click.option(
    "--text-field",
    metavar="NAME",
    help="Field that has the text, in .jsonl, .csv and .parquet files.  [default: text]",
)
@click.option(
    "--text-pair-field",
    metavar="NAME",
    help="Field that has a second text, for pairs that are classified or compared.",
)
@click.option(
    "--label-field",
    metavar="NAME",
    help="Field that has the class of a text, by name or number; of embeddings, a number that says "
    "how alike the texts of a pair are.",
)
@click.option(
    "--mask-share",
    type=float,
    help="Share of the tokens that are hidden (masked-lm).  [default: 0.15]",
)
@click.option(
    "--max-documents", type=COUNT, metavar="COUNT", help="Read this many documents at most."
)
@click.option(
    "--teacher",
    metavar="MODEL",
    help="Measure how far from this model's predictions or vectors they are, and how often they "
    "agree.",
)
@click.option(
    "--seq-len",
    default=512,
    show_default=True,
    help="Tokens of a window of text, or of a whole text at most.",
)
@click.option(
    "--batch-size",
    type=int,
    help="Rows at a time, of language models.  [default: what makes 4096 tokens]",
)
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
@click.option("--seed", default=0, show_default=True, help="Seed of intervals, masks and drawing.")
@compute_option
@common_options
def evaluate(
    out: Output, models, task, teacher, data, form, text_field, text_pair_field, label_field,
    mask_share, max_documents, seq_len, batch_size, generate, prompt_field, reference_field,
    max_new_tokens, temperature, stop, max_rows, seed, compute,
) -> None:  # fmt: skip
    """Measure models at their task: predicting text, hidden tokens or classes, or making vectors.

    Every figure but one has an interval over documents or rows. docs/evaluation.md says what each
    of them is, and which options go with which task.

    \b
    Examples:
      entrenar-distill evaluate --model ./student --data 'held-out/*.txt'
      entrenar-distill evaluate --model ./student --model student-q4_0.gguf \\
          --teacher ./teacher --data held-out.jsonl
      entrenar-distill evaluate --model ./student --generate questions.jsonl \\
          --prompt-field question --reference-field answer --stop $'\\n'
      entrenar-distill evaluate --model ./classifier --data rows.jsonl \\
          --label-field label --teacher ./teacher
      entrenar-distill evaluate --model ./embedder --data pairs.csv \\
          --text-field first --text-pair-field second --label-field score
    """
    from entrenar_distill.evaluate_request import EvaluateOptions, measured

    options = EvaluateOptions(
        data=data, format=form, text_field=text_field, max_documents=max_documents,
        text_pair_field=text_pair_field, label_field=label_field, mask_share=mask_share,
        batch_size=batch_size, generate=generate, prompt_field=prompt_field,
        reference_field=reference_field, max_new_tokens=max_new_tokens, temperature=temperature,
        stop=stop, max_rows=max_rows, seq_len=seq_len, seed=seed, compute=compute,
    )  # fmt: skip
    report = measured(models, task=task, teacher=teacher, options=options, progress=out.progress())
    out.emit(report, schema=report.SCHEMA)
