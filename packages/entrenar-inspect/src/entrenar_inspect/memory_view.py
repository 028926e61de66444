"""What `entrenar-inspect memory` shows: terms in a table and in a bar, what fits, what was
measured."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from entrenar_common.tables import Bar, Fields, Table, Text
from entrenar_common.units import format_binary
from entrenar_core.estimate.rows import COLUMNS, TermRow, caption, term_cells

_PHASES = {
    "loss": "while the loss is computed",
    "backward": "while gradients are computed",
    "loading": "while the weights are read",
    "prefill": "while the blocks work on the whole input",
    "logits": "while logits are computed",
}


@dataclass(frozen=True)
class Use:
    """One use of a model, running or training it: the peak, the phase that decides it, and all
    terms; with a limit, whether it fits and how many sequences would."""

    total_bytes: int
    peak_phase: str
    computed: str
    terms: tuple[TermRow, ...]
    fits: bool | None
    largest_batch: int | None


@dataclass(frozen=True)
class Measured:
    """What a real run took beside what was predicted; error: predicted / measured − 1."""

    use: str
    predicted_bytes: int
    measured_bytes: int
    error: float


@dataclass(frozen=True)
class MemoryReport:
    """What it takes to run and to train a model at one size."""

    model: str
    model_from: str
    parameters: int
    engine: str
    device: str
    batch_size: int
    seq_len: int
    precision: str
    method: str
    rank: int | None
    target_modules: tuple[str, ...]
    trainable_parameters: int
    optimizer: str
    checkpointing: bool
    limit_bytes: int | None
    limit_text: str | None
    inference: Use
    training: Use
    measured: tuple[Measured, ...] = ()

    @property
    def nothing_fits(self) -> bool:
        """Whether there is a limit that neither use keeps."""
        return self.limit_bytes is not None and not (self.inference.fits or self.training.fits)

    def __view__(self) -> list[Any]:
        parts: list[Any] = [Fields(None, self._settings())]
        uses = (("Inference", self.inference), ("Training", self.training))
        for title, use in uses:
            parts += _shown(title, use)
        if self.limit_bytes is not None:
            rows = [[title, *_fit(use, self.limit_bytes)] for title, use in uses]
            columns = ["use", "takes", "of it", "fits", "largest batch"]
            parts.append(Table(f"In {self.limit_text}", columns, rows))
        if self.measured:
            parts.append(_measurements(self.measured))
        return parts

    def _settings(self) -> list[tuple[str, Any]]:
        rows: list[tuple[str, Any]] = [
            ("model", f"{self.model} ({self.model_from}), {self.parameters:,} parameters"),
            ("engine", f"{self.engine}, in {self.device}"),
            ("batch", f"{self.batch_size:,} × {self.seq_len:,} tokens"),
            ("weights", self.precision),
            ("training", self._method()),
            ("optimizer", self.optimizer),
            ("checkpointing", "on" if self.checkpointing else "off"),
        ]
        return rows

    def _method(self) -> str:
        share = 100 * self.trainable_parameters / self.parameters
        what = f"{self.trainable_parameters:,} parameters ({share:.2f}%)"
        if self.rank is None:
            return f"full: {what}"
        return f"LoRA of rank {self.rank} on {', '.join(self.target_modules)}: {what}"


def _shown(title: str, use: Use) -> list[Any]:
    total = format_binary(use.total_bytes)
    cells = term_cells(use.terms, use.total_bytes)
    return [
        Text(f"{title}: {total}; the peak is {_PHASES[use.peak_phase]}", "title"),
        Bar([(row.name, row.share) for row in use.terms if row.at_peak]),
        Table(None, list(COLUMNS), cells, caption(use.terms, use.computed)),
    ]


def _fit(use: Use, limit: int) -> list[Any]:
    return [
        format_binary(use.total_bytes),
        f"{100 * use.total_bytes / limit:.1f}%",
        Text("yes", "good") if use.fits else Text("no", "bad"),
        f"{use.largest_batch:,}" if use.largest_batch else "none",
    ]


def _measurements(measured: Sequence[Measured]) -> Table:
    rows = [
        [
            each.use,
            format_binary(each.predicted_bytes),
            format_binary(each.measured_bytes),
            f"{100 * each.error:+.1f}%",
        ]
        for each in measured
    ]
    return Table(
        "Measured on this machine",
        ["use", "predicted", "measured", "error"],
        rows,
        "The largest resident size of a process of its own, mapped pages included.",
    )
