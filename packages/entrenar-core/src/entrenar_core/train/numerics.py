"""The budget of steps that may be lost to NaN and infinity."""

from entrenar_common.errors import NumericsError

IN_A_ROW, WINDOW, SHARE = 20, 1000, 0.01
"""A run stops after so many lost steps in a row, or, once it has gone on for `WINDOW` steps, after
a larger share of the last ones: a share of fewer steps would judge a run by its first mishap."""


class NonFiniteBudget:
    """Counts the steps whose loss or gradient was not finite, and so were skipped."""

    def __init__(self, skipped: list[int] | None = None, total: int = 0):
        self.skipped = skipped or []
        """The skipped steps among the last WINDOW, ascending."""
        self.total = total

    def record(self, step: int, finite: bool) -> None:
        """Note how `step` went."""
        self.skipped = [s for s in self.skipped if s > step - WINDOW]
        if not finite:
            self.skipped.append(step)
            self.total += 1

    def check(self, step: int, where: str, last_checkpoint: str) -> None:
        """Raise NumericsError if the budget is spent. `where` names the offending batch."""
        row = 0
        while row < len(self.skipped) and self.skipped[-1 - row] == step - row:
            row += 1
        if row >= IN_A_ROW:
            lost = f"{row} steps in a row"
        elif step >= WINDOW and len(self.skipped) > WINDOW * SHARE:
            lost = f"{len(self.skipped)} of the last {WINDOW} steps"
        else:
            return
        raise NumericsError(
            f"{lost} had a loss or gradient that is not finite, the last at step {step}, {where}",
            hint=f"lower training.learning_rate or look at that data; last good checkpoint: "
            f"{last_checkpoint}",
        )
