"""A report from the facts of a study, section by section."""

from __future__ import annotations

import math
from statistics import fmean

from entrenar_bench.report.analysis import analysis
from entrenar_bench.report.checklist import checklist
from entrenar_bench.report.document import (
    TIMINGS,
    Code,
    Document,
    Grid,
    Paragraph,
    Part,
    Section,
    number,
)
from entrenar_bench.report.facts import Run, StudyFacts
from entrenar_bench.report.methodology import methodology
from entrenar_bench.report.recommendations import recommendations
from entrenar_bench.report.results import results
from entrenar_bench.report.summary import summary

__all__ = ["compose"]


def compose(facts: StudyFacts) -> Document:
    """All sections. Equal studies give equal ones, but for the last, which is named TIMINGS."""
    sections = [
        summary(facts),
        methodology(facts),
        results(facts),
        analysis(facts),
        recommendations(facts),
        checklist(facts),
        _reproduction(facts),
        _timings(facts),
    ]
    return Document(facts.title, sections)


def _reproduction(facts: StudyFacts) -> Section:
    rows = [[arm.name, arm.digest] for arm in facts.arms]
    columns = ["Arm", "SHA-256 of its configuration"]
    caption = "Of the configuration as JSON with sorted keys."
    commands: list[Part] = (
        [Paragraph("The runs were made by:"), Code(facts.made_by)]
        if facts.made_by
        else [Paragraph("The command that made the runs: not recorded.", note=True)]
    )
    if facts.commands:
        commands += [Paragraph("This report was written by:"), Code(facts.commands)]
    hashes = Grid("Configurations", columns, rows, [False, False], caption)
    return Section("reproduction", "Reproduction", [*commands, hashes])


def _timings(facts: StudyFacts) -> Section:
    """What the machine took, of every run: different each time."""
    names = sorted({name for run in facts.runs for name in run.readings})
    said = Paragraph("Figures of this section differ between runs of equal studies.", note=True)
    if not names:
        nothing = Paragraph("No times were recorded.", note=True)
        return Section(TIMINGS, "Timings", [said, nothing])
    means = [
        [arm.name, *(_mean(facts.runs_of(arm.name), name) for name in names)]
        for arm in facts.arms
    ]  # fmt: skip
    rows = [
        [arm.name, str(run.seed), "–" if run.place is None else str(run.place),
         *(number(run.readings.get(name)) for name in names)]
        for arm in facts.arms
        for run in facts.runs_of(arm.name)
    ]  # fmt: skip
    count = len(names)
    every = Grid(
        "Of every run", ["Arm", "Seed", "Place", *names], rows, [False, *[True] * (2 + count)],
        "Place: which run of the study it was.", folded=True,
    )  # fmt: skip
    return Section(
        TIMINGS,
        "Timings",
        [said, Grid("Means", ["Arm", *names], means, [False, *[True] * count]), every],
    )


def _mean(runs: list[Run], name: str) -> str:
    found = [r.readings[name] for r in runs if math.isfinite(r.readings.get(name, math.nan))]
    return number(fmean(found)) if found else number(None)
