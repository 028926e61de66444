"""The section Recommendations: what the runs that there are ask for next."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from entrenar_bench.report.document import Items, Section, number
from entrenar_bench.report.facts import StudyFacts
from entrenar_bench.report.summaries import best
from entrenar_bench.report.summary import counted
from entrenar_bench.statistics import Comparison, State, Verdict

__all__ = ["decided", "recommendations", "winner"]

_MOST = 8  # comparisons that are named one by one


def recommendations(facts: StudyFacts) -> Section:
    """Runs to repeat, the winner's standing, and the seeds that are missing."""
    found = [*_lost(facts), *_winner(facts), *_seeds(facts), *_design(facts)]
    return Section("recommendations", "Recommendations", [Items(found)])


def winner(facts: StudyFacts) -> tuple[str, list[Comparison]] | None:
    """The arm with the best mean, and the comparisons of the deciding metric that it is in."""
    leader = best(facts)
    if leader is None:
        return None
    name = leader.arm.name
    return name, [c for c in decided(facts) if name in (c.arm, c.baseline)]


def decided(facts: StudyFacts) -> list[Comparison]:
    """The comparisons on the deciding metric."""
    return [c for family in facts.comparisons if family.metric == facts.metric
            for c in family.comparisons]  # fmt: skip


def _lost(facts: StudyFacts) -> Iterator[str]:
    states = Counter(run.state for run in facts.runs)
    if states["failed"]:
        yield (
            f"Look into {counted(states['failed'], 'failed run')} and repeat what failed for "
            "reasons outside of the arm: without them, means are over the runs that went well."
        )
    if states["unfinished"]:
        yield f"Finish {counted(states['unfinished'], 'run')} before taking the figures as final."
    finished = [run for run in facts.runs if run.state == "done"]
    lost = len(finished) - sum(len(facts.values_of(a.name, facts.metric)) for a in facts.arms)
    if lost:
        yield (
            f"{counted(lost, 'finished run')} gave no finite {facts.metric}: an arm that diverges "
            "is not as good as its other runs; find what makes it diverge."
        )


def _winner(facts: StudyFacts) -> Iterator[str]:
    found = winner(facts)
    if found is None:
        yield "There is no result yet: run the arms."
        return
    name, comparisons = found
    if not comparisons:
        yield f"{name} has the best mean, but it was compared with nothing: compare the arms."
        return
    open_ones = [c for c in comparisons if not _wins(c, name)]
    against = f"{len(comparisons) - len(open_ones)} of {counted(len(comparisons), 'comparison')}"
    if open_ones:
        yield f"{name} has the best mean but is not confirmed: it is better in {against}."
    elif len(comparisons) < len(facts.arms) - 1:
        yield f"{name} has the best mean and is better in {against}; it had no others."
    else:
        yield f"{name} has the best mean and is better in {against}, with all other arms."
    if len(facts.arms) > 2:
        yield (
            f"{name} was chosen as the best of {len(facts.arms)} arms by the runs that measure it, "
            "which flatters it: confirm it with seeds that no arm has had."
        )


def _wins(c: Comparison, name: str) -> bool:
    return c.verdict is (Verdict.BETTER if c.arm == name else Verdict.WORSE)


def _seeds(facts: StudyFacts) -> Iterator[str]:
    unclear = [c for c in decided(facts)
               if c.verdict is Verdict.INCONCLUSIVE and c.state is not State.PRUNED]  # fmt: skip
    countable = sorted(
        (c for c in unclear if c.more_seeds is not None), key=lambda c: c.more_seeds or 0
    )
    for c in countable[:_MOST]:
        yield (
            f"{c.arm} against {c.baseline} is open (difference {number(c.estimate)}): "
            f"{counted(c.more_seeds or 0, 'more seed')} would show an effect as large as this one "
            "with 80 % power."
        )
    if len(countable) > _MOST:
        yield f"{len(countable) - _MOST} more comparisons are open; the analysis has their seeds."
    beyond = len(unclear) - len(countable)
    if beyond:
        yield (
            f"{counted(beyond, 'comparison')} cannot be settled by a number of seeds that could be "
            "counted out: say which difference would matter, as a margin, and test for equivalence."
        )


def _design(facts: StudyFacts) -> Iterator[str]:
    if not facts.paired and len(facts.arms) > 1:
        yield "Give all arms the same seeds: paired runs need fewer of them for the same power."
    short = _never_exact(decided(facts))
    if short:
        yield (
            f"With {short} runs an exact test can never reach the level that was asked for; what "
            "is claimed rests on the t test and its assumption of normal differences."
        )
    if facts.revision is None or facts.modified:
        yield "Commit the code before the runs that are to be published."


def _never_exact(found: Sequence[Comparison]) -> int:
    """The most runs of those comparisons whose exact test cannot be significant."""
    return max(
        (min(c.runs) for c in found if c.exact and not c.exact.can_be_significant), default=0
    )
