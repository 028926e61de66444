"""The section Checklist: what reviewers ask of an experiment, answered from the records.

The questions are those of the reproducibility checklists of NeurIPS, of ACL 2021 and of Pineau
(2018), in our words.
"""

from __future__ import annotations

from collections.abc import Callable

from entrenar_bench.report.document import Grid, Section
from entrenar_bench.report.facts import StudyFacts
from entrenar_bench.report.recommendations import decided
from entrenar_bench.report.summary import counted

__all__ = ["checklist"]

Answer = tuple[bool | None, str]
"""Yes, no, or None where the question does not arise; and what the records show."""
Question = Callable[[StudyFacts], Answer]
_QUESTIONS: list[tuple[str, Question]] = []
_WORDS = {True: "yes", False: "no", None: "n/a"}


def checklist(facts: StudyFacts) -> Section:
    """One line for each question."""
    rows = []
    for question, answer in _QUESTIONS:
        found, shown = answer(facts)
        rows.append([question, _WORDS[found], shown])
    columns = ["Question", "Answer", "From the records"]
    caption = "Whatever is not in the records of the study is answered with no."
    grid = Grid("Reproducibility", columns, rows, [False] * 3, caption)
    return Section("checklist", "Checklist", [grid])


def _asks(question: str) -> Callable[[Question], Question]:
    def register(answer: Question) -> Question:
        _QUESTIONS.append((question, answer))
        return answer

    return register


@_asks("Is the exact number of runs stated?")
def _runs(facts: StudyFacts) -> Answer:
    planned = len(facts.arms) * len(facts.seeds)
    made = [run for run in facts.runs if run.state != "pruned"]
    return bool(made), f"{len(made)} recorded of {planned} planned"


@_asks("Are failed and diverged runs reported?")
def _failed(facts: StudyFacts) -> Answer:
    done = [run for run in facts.runs if run.state == "done"]
    failed = sum(run.state == "failed" for run in facts.runs)
    finite = sum(len(facts.values_of(arm.name, facts.metric)) for arm in facts.arms)
    lost = len(done) - finite
    return True, f"{failed} failed and {lost} without a finite result, listed and counted"


@_asks("Are all seeds stated, and is none twice?")
def _seeds(facts: StudyFacts) -> Answer:
    unique = len(set(facts.seeds)) == len(facts.seeds)
    return bool(facts.seeds) and unique, ", ".join(map(str, facts.seeds)) or "no seed recorded"


@_asks("Does every arm have the same number of runs?")
def _budget(facts: StudyFacts) -> Answer:
    if len(facts.arms) < 2:
        return None, "a single arm"
    counts = sorted(
        {sum(run.state != "pruned" for run in facts.runs_of(arm.name)) for arm in facts.arms}
    )
    return len(counts) == 1, f"{' to '.join(map(str, dict.fromkeys([counts[0], counts[-1]])))} each"


@_asks("Are the factors of variability stated?")
def _factors(facts: StudyFacts) -> Answer:
    return bool(facts.varies), facts.varies or "not recorded"


@_asks("Are error bars defined, and how they are computed?")
def _bars(facts: StudyFacts) -> Answer:
    known = any(len(facts.values_of(arm.name, facts.metric)) > 1 for arm in facts.arms)
    shown = f"{facts.confidence:.0%} t interval of the mean over runs; SD of runs beside it"
    return known, shown if known else "no arm has two finite results, so none are drawn"


@_asks("Are differences tested, with the assumptions stated?")
def _tests(facts: StudyFacts) -> Answer:
    tests = sorted({c.test for c in decided(facts)})
    return bool(tests), f"{', '.join(tests)}; assumptions in the analysis" if tests else "no test"


@_asks("Are p values adjusted for the number of comparisons?")
def _adjusted(facts: StudyFacts) -> Answer:
    count = len(decided(facts))
    if count < 2:
        return None, counted(count, "comparison")
    kinds = sorted({f.correction for f in facts.comparisons if f.metric == facts.metric})
    return True, f"{counted(count, 'comparison')}, {', '.join(kinds)}; raw p beside it"


@_asks("Are effect sizes given with intervals?")
def _effects(facts: StudyFacts) -> Answer:
    names = sorted({effect.name for c in decided(facts) for effect in (*c.effects, c.superiority)})
    return bool(names), ", ".join(names) or "no comparison"


@_asks("Are bounds and method of the search stated?")
def _search(facts: StudyFacts) -> Answer:
    if len(facts.arms) < 2:
        return None, "a single arm"
    space = "; ".join(facts.axes) or "no search space recorded"
    method = facts.method or "no method recorded"
    return bool(facts.axes and facts.method), f"{space}; by: {method}"


@_asks("Is the criterion of selection stated?")
def _criterion(facts: StudyFacts) -> Answer:
    if facts.criterion:
        return True, f"recorded with the runs: {facts.criterion}"
    return False, f"not recorded; this report decides by {facts.metric}, {facts.goal} is better"


@_asks("Was the winner confirmed with runs that did not choose it?")
def _confirmed(facts: StudyFacts) -> Answer:
    if len(facts.arms) < 3:
        return None, "nothing was chosen among more than two arms"
    return False, "no confirming runs are recorded"


@_asks("Is the whole configuration of every arm recorded?")
def _configs(facts: StudyFacts) -> Answer:
    recorded = sum(bool(arm.config) for arm in facts.arms)
    return bool(recorded) and recorded == len(facts.arms), f"{recorded} of {len(facts.arms)} arms"


@_asks("Is the order of runs stated?")
def _order(facts: StudyFacts) -> Answer:
    return bool(facts.order), facts.order or "not recorded"


@_asks("Is the hardware stated?")
def _hardware(facts: StudyFacts) -> Answer:
    return bool(facts.hardware), ", ".join(facts.hardware.values()) or "not recorded"


@_asks("Are the versions of the software stated?")
def _versions(facts: StudyFacts) -> Answer:
    shown = ", ".join(f"{name} {version}" for name, version in facts.versions.items())
    return bool(facts.versions), shown or "not recorded"


@_asks("Is the code at a stated revision, unmodified?")
def _revision(facts: StudyFacts) -> Answer:
    if facts.revision is None:
        return False, "not recorded"
    return not facts.modified, f"{facts.revision}{', modified' if facts.modified else ''}"


@_asks("Are running times recorded?")
def _times(facts: StudyFacts) -> Answer:
    made = [run for run in facts.runs if run.state != "pruned"]
    timed = sum("seconds" in run.readings for run in made)
    return bool(timed) and timed == len(made), f"of {timed} of {len(made)} runs"


@_asks("Is the energy recorded?")
def _energy(facts: StudyFacts) -> Answer:
    measured = any("joules" in run.readings for run in facts.runs)
    return measured, facts.energy or "not recorded"


@_asks("Are commands to reproduce the study given?")
def _commands(facts: StudyFacts) -> Answer:
    shown = counted(len(facts.made_by), "command") + " that made the runs"
    return bool(facts.made_by), shown if facts.made_by else "not recorded"
