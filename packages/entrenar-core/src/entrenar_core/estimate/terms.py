"""Memory as the sum of its terms."""

from dataclasses import dataclass

ALWAYS, LOSS, BACKWARD = "always", "loss", "backward"
"""When a term is there: all the time, while the loss is computed, or while gradients are."""

LOADING, PREFILL, LOGITS, RUNNING = "loading", "prefill", "logits", "running"
"""When a term of a model that is only run is there: while its weights are read, while the blocks
work on the whole input, while logits are computed, or in both of the last two."""

TEACHER, FEATURES, CONTROL, READING, MEASURING = (
    "teacher", "features", "control", "reading", "measuring"
)  # fmt: skip
"""When a term of a distillation is there: while the teacher reads a batch, while features of both
models are compared, in a step of the control, while what was written is read again, and while all
models are measured."""

STEP, LEARNING, AFTERWARDS = "step", "learning", "afterwards"
"""Of a distillation: from the student's pass to its gradients; in all of a step, the teacher's pass
and those of a control included; or once all is trained."""

_PHASES = (
    LOSS, BACKWARD, LOADING, PREFILL, LOGITS, TEACHER, FEATURES, CONTROL, READING, MEASURING,
)  # fmt: skip
_PARTS = {
    ALWAYS: _PHASES,
    RUNNING: (PREFILL, LOGITS),
    STEP: (LOSS, FEATURES, BACKWARD),
    LEARNING: (TEACHER, LOSS, FEATURES, BACKWARD, CONTROL),
    AFTERWARDS: (READING, MEASURING),
}
"""The phases that a time consists of, where they are several."""


@dataclass(frozen=True)
class Term:
    """One reason for memory: its bytes, when it is there, and how it was computed, in words."""

    name: str
    bytes: int
    why: str
    when: str = ALWAYS


@dataclass(frozen=True)
class Memory:
    """The peak: what is there in the phase that needs most.

    `computed` says how the numbers came about, such as "published formulae".
    """

    terms: tuple[Term, ...]
    computed: str

    @property
    def phase(self) -> str:
        """The phase that decides the peak."""
        return max(_PHASES, key=self.during)

    @property
    def total(self) -> int:
        """The bytes at the peak."""
        return self.during(self.phase)

    def during(self, phase: str) -> int:
        """The bytes of all terms that are there in a phase."""
        return sum(term.bytes for term in self.terms if phase in _phases(term))

    def of(self, when: str) -> int:
        """The bytes of the terms of one time."""
        return sum(term.bytes for term in self.terms if term.when == when)

    def at_peak(self, term: Term) -> bool:
        """Whether a term is part of the total."""
        return self.phase in _phases(term)

    def __getitem__(self, name: str) -> int:
        """The bytes of the terms called `name`; 0 where there is none."""
        return sum(term.bytes for term in self.terms if term.name == name)


def _phases(term: Term) -> tuple[str, ...]:
    return _PARTS.get(term.when, (term.when,))
