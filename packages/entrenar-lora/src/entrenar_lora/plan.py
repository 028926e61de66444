"""`entrenar-lora plan`: the request checked, the search run, and its result as a record."""

import math
from dataclasses import dataclass
from typing import Any

from entrenar_common.errors import UsageError
from entrenar_common.tables import Fields, Table, Text
from entrenar_common.units import format_binary
from entrenar_core.estimate import ModelShape, find_shape
from entrenar_core.estimate.engines import ENGINES
from entrenar_core.estimate.operations import operations
from entrenar_core.estimate.requests import check_adapters, check_sizes
from entrenar_core.estimate.targets import module_names
from entrenar_lora.grid import ORDER, Wanted
from entrenar_lora.planner import Found, GivenUp, search
from entrenar_lora.words import axis_value, method_name, sequences, times

DEFAULT_ALPHA = 16
"""LoRA's scale is alpha / rank. 16 is what QLoRA was evaluated with (arXiv:2305.14314, §B.2)."""


@dataclass(frozen=True)
class TermRow:
    """One term of the memory; `at_peak` says whether it is part of the total."""

    name: str
    bytes: int
    at_peak: bool
    why: str


@dataclass(frozen=True)
class Remedy:
    """Something that would fit, and the memory it takes."""

    change: str
    bytes: int


@dataclass(frozen=True)
class Plan:
    """What is recommended for a model in some memory; what comes nearest where nothing fits."""

    fits: bool
    engine: str
    computed: str
    model: str
    model_from: str
    parameters: int
    limit_bytes: int
    limit_text: str
    total_bytes: int
    short_by_bytes: int
    utilisation: float
    method: str
    base: str
    rank: int | None
    alpha: float | None
    target_modules: tuple[str, ...]
    adapted_matrices: int
    trainable_parameters: int
    trainable_share: float
    optimizer: str
    checkpointing: bool
    batch_size: int
    micro_batch: int
    accumulation: int
    seq_len: int
    terms: tuple[TermRow, ...]
    operations: int
    relative_step_cost: float
    largest_batch: int
    largest_seq_len: int
    why: tuple[str, ...]
    order: str
    searched: int
    remedies: tuple[Remedy, ...]

    def __view__(self) -> list[Any]:
        heading = Text(f"Recommended for {self.limit_text}", "title")
        if not self.fits:
            short = format_binary(self.short_by_bytes)
            heading = Text(f"Nothing fits {self.limit_text}: the least is {short} too much", "bad")
        parts: list[Any] = [heading, Fields(None, self._settings()), self._memory()]
        if self.why:
            parts.append(Text("Why\n" + "\n".join(f"- {line}" for line in self.why)))
        if not self.fits:
            parts.append(self._what_would())
        return parts

    def _settings(self) -> list[tuple[str, Any]]:
        rows: list[tuple[str, Any]] = [
            ("model", f"{self.model} ({self.model_from}), {self.parameters:,} parameters"),
            ("method", self.method),
        ]
        if self.rank:
            rows += [
                ("rank", self.rank),
                ("alpha", f"{self.alpha:g} (scale {(self.alpha or 0) / self.rank:g})"),
                (
                    "target modules",
                    f"{', '.join(self.target_modules)} ({self.adapted_matrices} matrices)",
                ),
            ]
        share = 100 * self.trainable_share
        rows += [
            ("trainable", f"{self.trainable_parameters:,} parameters ({share:.2f}% of the model)"),
            ("optimizer", self.optimizer),
            ("checkpointing", "on" if self.checkpointing else "off"),
            ("batch", sequences(self.batch_size, self.micro_batch, self.accumulation)),
            ("sequence length", f"{self.seq_len:,} tokens"),
            ("memory", f"{format_binary(self.total_bytes)} ({100 * self.utilisation:.1f}% of it)"),
            (
                "step cost",
                f"{times(self.relative_step_cost)} without checkpointing (estimated from "
                "operations)",
            ),
        ]
        if self.fits:
            rows += [
                ("largest batch", sequences(self.largest_batch, self.largest_batch, 1)),
                ("longest sequence", f"{self.largest_seq_len:,} tokens"),
            ]
        return rows

    def _memory(self) -> Table:
        rows = [[_term_name(row), format_binary(row.bytes), row.why] for row in self.terms]
        rows.append(["total at the peak", format_binary(self.total_bytes), "of those without *"])
        caption = f"{self.computed[0].upper()}{self.computed[1:]}."
        if any(not row.at_peak for row in self.terms):
            caption += " * Not there at the peak, but at another time."
        return Table("Memory", ["term", "size", "how"], rows, caption)

    def _what_would(self) -> Any:
        if not self.remedies:
            return Text(
                f"No other setting fits either; it takes {format_binary(self.total_bytes)}."
            )
        rows = [[remedy.change, format_binary(remedy.bytes)] for remedy in self.remedies]
        rows.append(["as much memory as this takes", format_binary(self.total_bytes)])
        return Table("What would fit", ["change", "takes"], rows)


def _term_name(row: TermRow) -> str:
    return row.name if row.at_peak else f"{row.name} *"


def plan(
    model: str, wanted: Wanted, *, engine: str, limit: int, limit_text: str, alpha: float | None
) -> Plan:
    """The plan for the model that `model` means: see `estimate.find_shape` and `planner.search`.

    Raises UsageError for a request that makes no sense, and what finding the model raises.
    """
    if alpha is not None and not (math.isfinite(alpha) and alpha > 0):
        raise UsageError(f"--alpha {alpha}", hint="give a positive number, usually 16 or the rank")
    chosen = ENGINES[engine]
    shape = find_shape(model)
    check_request(shape, wanted)
    found = search(shape, chosen, wanted, limit=limit)
    return _record(found, limit_text, DEFAULT_ALPHA if alpha is None else alpha)


def check_request(shape: ModelShape, wanted: Wanted) -> None:
    """Raise UsageError for settings that exclude each other or the model."""
    check_sizes(shape, seq_len=wanted.seq_len, rank=wanted.rank)
    check_adapters(wanted.method, wanted.rank, wanted.targets)


def _record(found: Found, limit_text: str, alpha: float) -> Plan:
    setup, memory, shape = found.choice.setup, found.choice.memory, found.shape
    adapters = not setup.is_full
    return Plan(
        fits=found.fits,
        engine=found.engine.name,
        computed=memory.computed,
        model=shape.name,
        model_from=shape.origin,
        parameters=shape.parameters,
        limit_bytes=found.limit,
        limit_text=limit_text,
        total_bytes=memory.total,
        short_by_bytes=max(0, memory.total - found.limit),
        utilisation=memory.total / found.limit,
        method=method_name(setup),
        base=setup.base,
        rank=setup.rank if adapters else None,
        alpha=alpha if adapters else None,
        target_modules=module_names(setup.targets),
        adapted_matrices=len(setup.targets),
        trainable_parameters=found.trained,
        trainable_share=found.trained / shape.parameters,
        optimizer=setup.optimizer,
        checkpointing=setup.checkpointing,
        batch_size=found.wanted.batch_size,
        micro_batch=setup.batch,
        accumulation=setup.accumulation,
        seq_len=setup.seq_len,
        terms=tuple(TermRow(t.name, t.bytes, memory.at_peak(t), t.why) for t in memory.terms),
        operations=operations(shape, setup).total,
        relative_step_cost=found.cost,
        largest_batch=found.largest_batch,
        largest_seq_len=found.largest_seq_len,
        why=tuple(_reasons(found)),
        order=ORDER,
        searched=found.searched,
        remedies=tuple(Remedy(change, total) for change, total in found.remedies),
    )


def _reasons(found: Found) -> list[str]:
    if not found.fits:
        return [f"none of the {found.searched} combinations fits; the least one is shown"]
    if not found.given_up:
        return ["the most preferred combination fits: nothing had to be given up"]
    lines = [_reason(each, found.limit) for each in found.given_up]
    return [f"{ORDER[0].upper()}{ORDER[1:]}.", *lines]


def _reason(given_up: GivenUp, limit: int) -> str:
    needs, more = format_binary(given_up.needs), format_binary(given_up.needs - limit)
    return f"{axis_value(given_up.axis, given_up.value)} takes {needs}, {more} too much"


def no_memory(limit: int | None) -> int:
    """`limit`; raises UsageError where there is none."""
    if limit is None:
        raise UsageError(
            "neither --vram nor --ram is given: nothing to plan for",
            hint="give the memory of the GPU, such as --vram 16GB, or main memory with --ram",
        )
    return limit
