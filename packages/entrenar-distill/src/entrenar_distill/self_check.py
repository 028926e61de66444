"""A loss tried on the models and the rows that it is meant for, before anything is trained."""

from collections.abc import Callable, Iterator

from entrenar_common.progress import NullProgress, Progress
from entrenar_distill.check import Check
from entrenar_distill.self_check_causality import causality
from entrenar_distill.self_check_division import accumulation, padding
from entrenar_distill.self_check_mask import mask
from entrenar_distill.self_check_match import match
from entrenar_distill.self_check_packing import boundaries
from entrenar_distill.self_check_slope import slope
from entrenar_distill.self_check_subject import Subject

CHECKS: tuple[Callable[[Subject], Iterator[Check]], ...] = (
    match,
    slope,
    accumulation,
    padding,
    causality,
    mask,
    boundaries,
)
"""What is known of any loss of predictions; each can be called by itself."""


def self_check(subject: Subject, *, progress: Progress | None = None) -> list[Check]:
    """Every check of `CHECKS`, in order. Nothing of the subject is changed but gradients."""
    if not subject.batch.targets:
        why = "the rows that were looked at have no labels"
        return [Check.skipped("loss", "everything about the loss", why)]
    progress = progress or NullProgress()
    progress.start("self-check", len(CHECKS))
    found: list[Check] = []
    for check in CHECKS:
        found += check(subject)
        progress.advance(1)
    progress.finish()
    return found
