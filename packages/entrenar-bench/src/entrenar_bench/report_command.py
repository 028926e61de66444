"""The command `report`."""

from __future__ import annotations

import click

from entrenar_common.cli import Command, Output, common_options


@click.command(cls=Command)
@click.argument("results", nargs=-1, required=True, type=click.Path(), metavar="RESULTS...")
@click.option(
    "--format",
    "form",
    type=click.Choice(["html", "md", "latex"]),
    default="html",
    show_default=True,
    help="One page, GitHub's Markdown, or LaTeX for the class article with booktabs.",
)
@click.option(
    "--output", required=True, type=click.Path(dir_okay=False), help="The file to be written."
)
@click.option(
    "--metric",
    "metrics",
    multiple=True,
    metavar="NAME[:lower|higher]",
    help="What is compared, and which values are better (lower if it is not said); the first of "
    "several decides. The loss, or the only metric, if none is named.",
)
@click.option("--baseline", metavar="ARM", help="Compare the others with it, not all pairs.")
@click.option(
    "--design",
    type=click.Choice(["paired", "independent"]),
    default="paired",
    show_default=True,
    help="Whether runs of one seed belong together.",
)
@click.option(
    "--correction",
    type=click.Choice(["holm", "bh"]),
    default="holm",
    show_default=True,
    help="How p values are adjusted for the number of comparisons.",
)
@click.option("--alpha", type=float, default=0.05, show_default=True, help="The error rate.")
@click.option("--margin", type=float, metavar="X", help="Differences up to X do not matter.")
@click.option("--title", help="Instead of the name of the study.")
@click.option("--question", help="What the study was to answer, in a sentence.")
@click.option(
    "--no-timings",
    is_flag=True,
    help="Leave out the one section that differs between equal studies.",
)
@common_options
def report(
    out: Output, results, *, form, output, metrics, baseline, design, correction, alpha, margin,
    title, question, no_timings,
) -> None:  # fmt: skip
    """Write a study down as one file: verdicts, methods, results, statistics, a checklist.

    Several RESULTS are one study whose arms or seeds are in several files. Equal studies give equal
    files, but for the timings, which are marked.

    \b
    Examples:
      entrenar-bench report kd.study --output report.html
      entrenar-bench report a.study b.study --metric accuracy:higher --format md --output report.md
    """
    from contextlib import ExitStack

    from entrenar_bench.report.asking import command_line, metrics_asked
    from entrenar_bench.report.compose import compose
    from entrenar_bench.report.gathered import Asked, gathered
    from entrenar_bench.report.write import Written, without_timings, written
    from entrenar_bench.study import Study
    from entrenar_core.io import files

    with ExitStack() as opened:
        studies = [opened.enter_context(Study.open(path)) for path in results]
        known = sorted({name for study in studies for name in study.metrics()})
        wanted = metrics_asked(metrics, known)
        facts = gathered(
            studies,
            Asked(
                metrics=wanted, baseline=baseline, design=design, correction=correction,
                alpha=alpha, margin=margin, title=title or "", question=question or "",
                commands=[command_line(results, wanted, form, baseline=baseline, design=design,
                                       correction=correction, alpha=alpha, margin=margin)],
            ),
        )  # fmt: skip
    document = compose(facts)
    text = written(without_timings(document) if no_timings else document, form)
    files.write_text(output, text)
    out.emit(Written(output, form, len(text.encode())), schema="entrenar.bench.report/1")
