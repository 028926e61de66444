"""Memory as the sum of its terms."""

from dataclasses import dataclass

ALWAYS, LOSS, BACKWARD = "always", "loss", "backward"
"""When a term is there: all the time, while the loss is computed, or while gradients are."""


@dataclass(frozen=True)
class Term:
    """One reason for memory: its bytes, when it is there, and how it was computed, in words."""

    name: str
    bytes: int
    why: str
    when: str = ALWAYS


@dataclass(frozen=True)
class Memory:
    """The peak: what is there all the time, and the larger of what only one phase needs.

    `computed` says how the numbers came about, such as "published formulae".
    """

    terms: tuple[Term, ...]
    computed: str

    @property
    def phase(self) -> str:
        """The phase that decides the peak."""
        return max((LOSS, BACKWARD), key=self.of)

    @property
    def total(self) -> int:
        """The bytes at the peak."""
        return self.of(ALWAYS) + self.of(self.phase)

    def of(self, when: str) -> int:
        """The bytes of the terms of one time."""
        return sum(term.bytes for term in self.terms if term.when == when)

    def at_peak(self, term: Term) -> bool:
        """Whether a term is part of the total."""
        return term.when in (ALWAYS, self.phase)

    def __getitem__(self, name: str) -> int:
        """The bytes of the terms called `name`; 0 where there is none."""
        return sum(term.bytes for term in self.terms if term.name == name)
