"""What the workbench wants of jobs in the background."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from entrenar_shell.command import PlainLine

__all__ = ["Jobs"]


class Jobs(Protocol):
    """Commands that run in processes of their own."""

    def start(self, line: str, plain: Sequence[PlainLine]) -> int:
        """Begin what `line` stands for, one plain line after the other; gives the job's number."""
        ...
