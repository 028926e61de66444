"""The section Methodology: how the study was made, from what was recorded and nothing else."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from entrenar_bench.report.document import Facts, Grid, Paragraph, Part, Section, number
from entrenar_bench.report.facts import Arm, StudyFacts

__all__ = ["UNRECORDED", "methodology", "setting"]

UNRECORDED = "not recorded"
_WIDEST = 4  # settings beside each other


def methodology(facts: StudyFacts) -> Section:
    """Design, search space, arms and machine."""
    notes = [Paragraph(text, note=True) for text in facts.notes]
    parts: list[Part] = [_design(facts), *notes, *_differences(facts)]
    if facts.space:
        rows = [[p.name, p.bounds] for p in facts.space]
        columns = ["Setting", "Values"]
        parts.append(Grid("Settings that differ, and their values", columns, rows, [False] * 2))
    parts += [
        *_common(facts),
        _listed("Hardware", facts.hardware),
        _listed("Versions", facts.versions),
    ]
    return Section("methodology", "Methodology", parts)


def setting(value: Any) -> str:
    """A value of a configuration as text."""
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return number(value)
    return json.dumps(value, ensure_ascii=False)


def _design(facts: StudyFacts) -> Facts:
    planned = len(facts.arms) * len(facts.seeds)
    pairing = (
        "every arm has the same seeds, and runs of one seed are compared with each other"
        if facts.paired
        else "runs of different arms are independent of each other"
    )
    revision = facts.revision or UNRECORDED
    if facts.revision and facts.modified:
        revision += ", with files that differ from it"
    return Facts(
        "Design",
        [
            ("Varies between runs of an arm", facts.varies or UNRECORDED),
            ("Runs", f"{planned} planned: {len(facts.arms)} arms × {len(facts.seeds)} seeds"),
            ("Seeds", ", ".join(map(str, facts.seeds)) or UNRECORDED),
            ("Pairing", pairing),
            ("Order of runs", facts.order or UNRECORDED),
            ("Search space, as written", "; ".join(facts.axes) or UNRECORDED),
            ("Configurations chosen by", facts.method or UNRECORDED),
            ("The best is chosen by", facts.criterion or UNRECORDED),
            ("Code", revision),
            ("Energy", facts.energy or UNRECORDED),
        ],
    )


def _differences(facts: StudyFacts) -> list[Part]:
    """What distinguishes the arms: beside each other while there is room, else below each other."""
    names = facts.varied
    if not names:
        return [Paragraph("No recorded setting differs between the arms.", note=True)]
    if len(names) <= _WIDEST:
        rows = [[arm.name, *(_value(arm, name) for name in names)] for arm in facts.arms]
        numeric = [all(_is_number(arm.config.get(name)) for arm in facts.arms) for name in names]
        return [Grid("Arms", ["Arm", *names], rows, [False, *numeric])]
    rows = [[arm.name, name, _value(arm, name)] for arm in facts.arms for name in names]
    return [Grid("Arms", ["Arm", "Setting", "Value"], rows, [False] * 3)]


def _common(facts: StudyFacts) -> list[Part]:
    if not facts.arms:
        return []
    varied = set(facts.varied)
    config = facts.arms[0].config
    items = [(name, setting(config[name])) for name in sorted(config) if name not in varied]
    return [Facts("Settings that all arms share", items, folded=True)] if items else []


def _listed(title: str, items: Mapping[str, str]) -> Part:
    if not items:
        return Paragraph(f"{title}: {UNRECORDED}.", note=True)
    return Facts(title, list(items.items()))


def _value(arm: Arm, name: str) -> str:
    return setting(arm.config[name]) if name in arm.config else "–"


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
