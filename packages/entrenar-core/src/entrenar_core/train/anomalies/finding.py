"""What was noticed in a training, in numbers and in words."""

from dataclasses import dataclass
from typing import Literal

from entrenar_core.train.anomalies.section import Kind
from entrenar_core.train.callbacks import Notice

__all__ = ["Finding"]

_ADVICE: dict[Kind, str] = {
    "data-stall": "see what batches wait for: a slow disk, a network, or work on each row that "
    "could be done once, before training",
    "throttling": "see whether the processor is hot, the container has used up its share, or other "
    "processes came; fewer threads than cores may be faster then",
    "divergence": "lower the learning rate, lengthen the warm-up or clip gradients more, and go on "
    "from a checkpoint before this step; or look at the data of these steps",
    "memory-growth": "see what is kept from step to step, such as losses with their graph instead "
    "of their values; checkpoint before the memory is used up",
}
_SEVERITY: dict[Kind, Literal["warning", "serious"]] = {
    "data-stall": "warning",
    "throttling": "warning",
    "divergence": "serious",
    "memory-growth": "serious",
}


@dataclass(frozen=True)
class Finding:
    """A change, at the step at which it was sure.

    figure: which number it was found in
    value:  that number now: a second, a byte, or as the log has it
    usual:  what it was before
    seen:   the two in words, with their units
    score:  how far they are apart, in usual spreads of the number
    """

    kind: Kind
    step: int
    figure: str
    value: float
    usual: float
    seen: str
    score: float

    def notice(self) -> Notice:
        """As callbacks are told of it."""
        message = f"step {self.step}: {self.seen}; {_ADVICE[self.kind]}"
        return Notice(self.kind, self.step, message, _SEVERITY[self.kind])
