"""What is known of an optimizer step when it is judged."""

import math
import mmap
from dataclasses import dataclass

__all__ = [
    "COMPUTE",
    "CPU",
    "DATA",
    "FLOORS",
    "LOSS",
    "MEMORY",
    "NORM",
    "StepFigures",
    "private_bytes",
]

DATA, COMPUTE, CPU, LOSS, NORM, MEMORY = range(6)
"""Places in a vector."""

FLOORS = (0.1, 0.05, 0.1, 0.02, 0.1, 0.01)
"""What a figure is taken to vary by at least: of times and the norm the logarithm, of loss and
memory a share of the usual value."""

_SHORTEST, _SMALLEST = 1e-6, 1e-12


@dataclass(frozen=True, slots=True)
class StepFigures:
    """A step, in numbers.

    step_seconds:  the whole of it
    data_seconds:  the part in which it waited for its batches
    cpu_seconds:   processor time of the training thread after that, which does not grow while other
                   processes have the processor
    private_bytes: memory that the process has for itself, see `private_bytes`; 0 where unknown
    disturbed:     whether an evaluation or a checkpoint came just before, after which caches are
                   cold and a disk may be busy: such a step is not judged by its times
    """

    step: int
    step_seconds: float
    data_seconds: float
    cpu_seconds: float
    loss: float
    gradient_norm: float
    private_bytes: int
    disturbed: bool = False

    @property
    def compute_seconds(self) -> float:
        """All that was not waiting for data."""
        return self.step_seconds - self.data_seconds

    @property
    def finite(self) -> bool:
        """Whether the step was taken."""
        return math.isfinite(self.loss) and math.isfinite(self.gradient_norm)

    def vector(self) -> tuple[float, ...]:
        """Its six figures on scales on which they vary alike when they are large and small: the
        logarithm of times and of the norm; loss and memory as they are."""
        return (
            math.log(max(self.data_seconds, _SHORTEST)),
            math.log(max(self.compute_seconds, _SHORTEST)),
            math.log(max(self.cpu_seconds, _SHORTEST)),
            self.loss,
            math.log(max(self.gradient_norm, _SMALLEST)),
            float(self.private_bytes),
        )


def private_bytes() -> int:
    """What this process holds in memory for itself; 0 where the system does not say.

    Without pages of mapped files, such as a cache of tokens: they come in as the data are read for
    the first time, and the system takes them back when it needs them.
    """
    try:
        with open("/proc/self/statm", "rb", buffering=0) as file:
            resident, shared = file.read().split()[1:3]
    except OSError:
        return 0
    return (int(resident) - int(shared)) * mmap.PAGESIZE
