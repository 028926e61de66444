"""What is said of the memory that a run takes."""

from entrenar_common.errors import EntrenarError, OutOfMemoryError
from entrenar_common.units import format_binary
from entrenar_core.estimate.own_distillation import own_distillation
from entrenar_core.train.measuring import installed_memory
from entrenar_distill.check import Check, Status
from entrenar_distill.config import DistillConfig
from entrenar_distill.estimate_view import PHASES
from entrenar_distill.planned import planned

NAME, TITLE = "memory", "memory"
_TIGHT = 0.8
"""Other programs take some of a machine's memory too."""


def memory_check(config: DistillConfig) -> Check:
    """Whether what `config` is estimated to take at its peak fits into this machine."""
    try:
        plan = planned(config)
        memory = own_distillation(plan.student, plan.teacher, plan.asked)
    except EntrenarError as error:  # what is wrong with the models is said by the checks of them
        return Check.skipped(NAME, TITLE, error.message)
    installed = installed_memory()
    peak = f"{format_binary(memory.total)} at most, {PHASES[memory.phase]}"
    if installed is None:
        return Check(NAME, TITLE, Status.OK, peak)
    note = f"{peak}; this machine has {format_binary(installed)}"
    if memory.total > installed:
        error = OutOfMemoryError(
            note, hint="entrenar-distill estimate says which term to change, and which batch fits"
        )
        return Check.refused(NAME, TITLE, error)
    status = Status.WARNING if memory.total > _TIGHT * installed else Status.OK
    return Check(NAME, TITLE, status, note)
