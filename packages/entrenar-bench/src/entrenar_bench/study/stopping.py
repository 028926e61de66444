"""How a driver is asked to stop: once, and its runs may save what they have; twice, and not."""

from __future__ import annotations

import signal
from types import FrameType

from entrenar_core.train.process import StopRequest

__all__ = ["DriverStop"]


class DriverStop(StopRequest):
    """Never raises: whatever is being written to a study is written."""

    def __init__(self) -> None:
        super().__init__()
        self.hurried = False
        """Whether it was asked twice, so that nothing is waited for."""

    def receive(self, number: int, _frame: FrameType | None) -> None:
        """Take a signal."""
        self.hurried = self.signal is not None
        self.signal = signal.Signals(number)
