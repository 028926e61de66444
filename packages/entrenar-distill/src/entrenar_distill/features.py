"""The terms of a loss about what is inside the teacher, and what they came to."""

from collections.abc import Sequence
from typing import Any

from entrenar_common.errors import ConfigError
from entrenar_core.distill import features
from entrenar_distill.feature_sections import (
    AttentionSection,
    LayerMapping,
    ProgressiveSection,
    ScheduleSection,
)
from entrenar_distill.loss import DistillationConfig
from entrenar_distill.naming import about
from entrenar_distill.report import TaughtFeature

SKIP = 2
"""k of the layer mapping skip."""


def terms(
    config: DistillationConfig, student: Any, teacher: Any, *, seed: int
) -> list[features.FeatureTerm]:
    """The terms that `config` asks for; projections are drawn from `seed`.

    Raises ConfigError, naming the section, where layers, widths or heads of the models do not fit.
    """
    found = []
    if config.progressive is not None:
        with about("distillation.progressive"):
            found.append(_progressive(config.progressive, student, teacher, seed))
    if config.attention is not None:
        with about("distillation.attention"):
            found.append(_attention(config.attention, student, teacher))
    return found


def check_steps(found: Sequence[features.FeatureTerm], steps: int) -> None:
    """Raise ConfigError for a pair that takes part in none of the `steps` of a run."""
    for term in found:
        for pair in term.pairs:
            if pair.schedule.from_step >= steps:
                raise ConfigError(
                    f"{term.name}: the layers {pair} are compared from step "
                    f"{pair.schedule.from_step} on, in a run of {steps} steps",
                    hint="lower from_step, or leave the pair out",
                )


def summary(found: Sequence[features.FeatureTerm]) -> str | None:
    """The terms in a line, None for none."""
    return "; ".join(f"{term.name} ({_pairs_of(term)})" for term in found) or None


def taught(
    found: Sequence[features.FeatureTerm], records: Sequence[dict[str, Any]]
) -> tuple[TaughtFeature, ...] | None:
    """What became of each term, by the records of the student's steps; None for no terms."""
    return tuple(_taught(term, records) for term in found) or None


def _progressive(
    section: ProgressiveSection, student: Any, teacher: Any, seed: int
) -> features.FeatureTerm:
    pairs = _pairs(section.layer_mapping, section.every, section.schedule, student, teacher)
    return features.hidden_term(
        section.part,
        student,
        teacher,
        loss=section.loss,
        pairs=pairs,
        weight=section.weight,
        learned=section.projection != "identity",
        embeddings=features.embeddings_pair(_schedule(section.schedule))
        if section.embeddings
        else None,
        seed=seed,
    )


def _attention(section: AttentionSection, student: Any, teacher: Any) -> features.FeatureTerm:
    mapping = section.layers or ("final" if section.kind == "minilm" else "uniform")
    pairs = _pairs(mapping, section.every, section.schedule, student, teacher)
    if section.kind == "transfer":
        loss = "transfer_squared" if section.form == "code" else "transfer"
        return features.hidden_term(
            section.part, student, teacher, loss=loss, pairs=pairs, weight=section.weight
        )
    return features.attention_term(
        section.part,
        student,
        teacher,
        loss=section.kind,
        pairs=pairs,
        weight=section.weight,
        heads=section.heads,
    )


def _pairs(
    mapping: LayerMapping, every: int | None, section: ScheduleSection, student: Any, teacher: Any
) -> list[features.LayerPair]:
    schedule = _schedule(section)
    if not isinstance(mapping, str):
        return [
            features.LayerPair(
                pair.student,
                pair.teacher,
                schedule if pair.schedule is None else _schedule(pair.schedule),
            )
            for pair in mapping
        ]
    return features.layer_pairs(
        mapping,
        student.config.num_hidden_layers,
        teacher.config.num_hidden_layers,
        every=every or SKIP,
        schedule=schedule,
    )


def _schedule(section: ScheduleSection) -> features.Schedule:
    return features.Schedule(section.from_step, section.until_step, section.ramp_steps)


def _pairs_of(term: features.FeatureTerm) -> str:
    return ", ".join(map(str, term.pairs))


def _taught(term: features.FeatureTerm, records: Sequence[dict[str, Any]]) -> TaughtFeature:
    values = [record[term.name] for record in records if record.get(term.name) is not None]
    schedules = {str(pair.schedule): None for pair in term.pairs}
    return TaughtFeature(
        name=term.name,
        formula=term.loss.formula,
        weight=term.weight,
        pairs=_pairs_of(term),
        active="; ".join(schedules),
        projections=sum(p.data.size for p in term.parameters().values()),
        first=values[0] if values else None,
        last=values[-1] if values else None,
    )
