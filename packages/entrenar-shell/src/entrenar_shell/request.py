"""A plain command with its words: what it stands for, and what is asked before long work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from entrenar_shell.command import Command, PlainLine
from entrenar_shell.session import Session

__all__ = ["Request"]

_DRY_RUN = "--dry-run"
_YES = "--yes"


@dataclass(frozen=True)
class Request:
    """The words after a plain command."""

    command: Command
    words: tuple[str, ...]
    has_plan: bool

    @staticmethod
    def of(command: Command, words: Sequence[str]) -> Request:
        """That of a command with words. `has_plan`: there is a --dry-run that shows what would be
        done."""
        assert command.lower is not None
        has_plan = command.asks and any(
            _DRY_RUN in param.opts for param in command.grammar().params
        )
        return Request(command, tuple(words), has_plan)

    @property
    def name(self) -> str:
        """What the command is called."""
        return " ".join(self.command.path)

    @property
    def question(self) -> str:
        """What a person is asked."""
        return _QUESTIONS.get(self.name, f"Proceed with {self.name}?")

    @property
    def waits(self) -> bool:
        """Whether it is long work, and --yes does not say that it may begin."""
        return self.command.asks and _YES not in self.words

    @property
    def only_plan(self) -> bool:
        """Whether the plan was asked for, and nothing else where nobody can be asked."""
        return self.command.asks and _DRY_RUN in self.words

    def lines(self, session: Session) -> list[PlainLine]:
        """What it stands for."""
        return self._lowered(self.words, session)

    def work(self, session: Session) -> list[PlainLine]:
        """What it stands for without --dry-run: the work itself."""
        return self._lowered([word for word in self.words if word != _DRY_RUN], session)

    def plan(self, session: Session) -> list[PlainLine]:
        """What shows the plan of the work."""
        words = self.words if _DRY_RUN in self.words else (*self.words, _DRY_RUN)
        return self._lowered(words, session)

    def _lowered(self, words: Sequence[str], session: Session) -> list[PlainLine]:
        assert self.command.lower is not None
        return self.command.lower(words, session)


_QUESTIONS = {
    "distill": "Proceed with training?",
    "finetune": "Proceed with training?",
    "sweep": "Proceed with all of these trainings?",
}
