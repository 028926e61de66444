"""The table of what storing numbers in fewer bits has lost, for every tool that writes models."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from entrenar_common.tables import Table
from entrenar_common.units import format_bytes

__all__ = ["Loss", "loss_table"]

_CAPTION = (
    "Read back from the file and compared with the source. Worst and mean difference as a share of "
    "a tensor's largest weight."
)


class Loss(Protocol):
    """What a type did to the tensors stored in it: shares of a tensor's largest magnitude, and the
    ratio of signal to noise in dB, None where nothing was lost."""

    @property
    def form(self) -> str: ...

    @property
    def tensors(self) -> int: ...

    @property
    def nbytes(self) -> int: ...

    @property
    def bits_per_weight(self) -> float: ...

    @property
    def worst(self) -> float: ...

    @property
    def mean(self) -> float: ...

    @property
    def sqnr(self) -> float | None: ...


def loss_table(losses: Iterable[Loss]) -> Table:
    """A row for each type."""
    rows = [
        (
            loss.form,
            loss.tensors,
            format_bytes(loss.nbytes),
            f"{loss.bits_per_weight:.2f}",
            f"{loss.worst:.2%}",
            f"{loss.mean:.3%}",
            "–" if loss.sqnr is None else f"{loss.sqnr:.1f} dB",
        )
        for loss in losses
    ]
    columns = ("Type", "Tensors", "Size", "Bits", "Worst", "Mean", "Signal/noise")
    return Table("What storing it so has lost", columns, rows, caption=_CAPTION)
