"""What is said where the memory did not suffice for a run."""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from entrenar_common.errors import EntrenarError, OutOfMemoryError
from entrenar_common.units import format_binary
from entrenar_core.estimate.own_distillation import own_distillation
from entrenar_core.train.measuring import memory_limit
from entrenar_distill.config import DistillConfig
from entrenar_distill.planned import planned

__all__ = ["explained"]


@contextmanager
def explained(config: DistillConfig) -> Iterator[None]:
    """Turn a MemoryError of the body, which runs `config`, into an OutOfMemoryError that says what
    the run was estimated to take, and what it may have."""
    try:
        yield
    except MemoryError as error:
        # the arrays of the step are held by its frames, and what follows needs some room
        traceback.clear_frames(error.__traceback__)
        words = [str(error) or "an allocation failed", *_estimate(config), *_limit()]
        raise OutOfMemoryError(
            f"out of memory: {'; '.join(words)}",
            hint="entrenar-distill estimate says which term to change, and which batch fits",
        ) from error


def _estimate(config: DistillConfig) -> list[str]:
    try:
        plan = planned(config)
        memory = own_distillation(plan.student, plan.teacher, plan.asked)
    except (EntrenarError, MemoryError):
        return []
    return [f"the run is estimated to take {format_binary(memory.total)}"]


def _limit() -> list[str]:
    limit = memory_limit()
    return [] if limit is None else [f"this process may have {format_binary(limit)}"]
