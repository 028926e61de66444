"""The section Summary: what was asked, and what the runs answer, in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from entrenar_bench.report.document import Facts, Items, Paragraph, Part, Section, number, p_value
from entrenar_bench.report.facts import StudyFacts
from entrenar_bench.report.summaries import best
from entrenar_bench.statistics import Comparison, State, Verdict

__all__ = ["counted", "summary"]

_MOST = 12  # sentences that are read one by one


def summary(facts: StudyFacts) -> Section:
    """The verdicts on the deciding metric, and how many runs they stand on."""
    asked: list[Part] = [Paragraph(facts.question)] if facts.question else []
    return Section("summary", "Summary", [*asked, *_verdicts(facts), _counts(facts)])


def counted(count: int, noun: str) -> str:
    """A count with its noun: 1 run, 2 runs."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _verdicts(facts: StudyFacts) -> list[Part]:
    found = [c for family in facts.comparisons if family.metric == facts.metric
             for c in family.comparisons]  # fmt: skip
    if not found:
        return [Paragraph("No arms were compared, so this study decides nothing.", note=True)]
    return [Items(_sentences(found))]


def _sentences(found: Sequence[Comparison]) -> list[str]:
    if len(found) <= _MOST:
        return [_sentence(c) for c in found]
    decided = [c for c in found if c.verdict is not Verdict.INCONCLUSIVE]
    counts = Counter(c.verdict.value for c in found)
    total = ", ".join(f"{counts[v.value]} {v.value}" for v in Verdict if counts[v.value])
    shown = decided[:_MOST]
    rest = len(decided) - len(shown)
    more = [f"and {rest} more that are decided, in the statistical analysis."] if rest else []
    return [
        f"{counted(len(found), 'comparison')}: {total}.",
        *map(_sentence, shown),
        *more,
    ]


def _sentence(c: Comparison) -> str:
    """The verdict, and what it stands on where there is a test."""
    if c.state is not State.TESTED:
        return f"{c.sentence}."
    interval = f"{c.confidence:.0%} interval {number(c.low)} to {number(c.high)}"
    p = f"{'adjusted ' if c.adjusted_for > 1 else ''}p {p_value(c.p_adjusted)}"
    return f"{c.sentence}: {interval}, {p}."


def _counts(facts: StudyFacts) -> Facts:
    states = Counter(run.state for run in facts.runs)
    done = [r for r in facts.runs if r.state == "done"]
    finite = sum(len(facts.values_of(arm.name, facts.metric)) for arm in facts.arms)
    runs = f"{len(done)} finished, {states['failed']} failed, {states['unfinished']} unfinished"
    runs += f", {states['pruned']} pruned" if states["pruned"] else ""
    leader = best(facts)
    items = [
        ("Decided by", f"{facts.metric}, {facts.goal} is better"),
        ("Arms", str(len(facts.arms))),
        ("Runs", runs),
        ("Without a finite result", str(len(done) - finite)),
    ]
    if leader is not None:
        over = counted(leader.n, "run")
        mean = f"{leader.arm.name}: mean {number(leader.mean)} over {over}"
        items.append(("Best mean", mean))
    return Facts("In short", items)
