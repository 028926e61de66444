"""What the callbacks of a run notice, kept for its report."""

from collections.abc import Sequence

from entrenar_core.train.callbacks import Callback, Notice, Run
from entrenar_core.train.page_parts import Grid

__all__ = ["Noticed", "notice_grids"]


class Noticed(Callback):
    """Keeps what is noticed, with the phase in which it was."""

    def __init__(self) -> None:
        self.all: list[tuple[str, Notice]] = []
        self._phase = ""

    def started(self, run: Run) -> None:
        self._phase = run.phase

    def noticed(self, notice: Notice) -> None:
        self.all.append((self._phase, notice))


def notice_grids(noticed: Sequence[tuple[str, Notice]]) -> list[Grid]:
    """A table of what was noticed in which phase, for a page; none where nothing was."""
    if not noticed:
        return []
    rows = [[phase, str(n.step), n.severity, n.kind, n.message] for phase, n in noticed]
    columns = ["Phase", "Step", "Severity", "What", "Seen"]
    caption = "Since the run was last started."
    return [Grid("What was noticed", columns, rows, [False, True, *[False] * 3], caption)]
