"""`entrenar-lora compare`: methods side by side, by what they take."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from entrenar_common.errors import UsageError
from entrenar_common.tables import Fields, Table, Text
from entrenar_common.units import format_binary, format_count
from entrenar_core.estimate import ModelShape, Setup, find_shape
from entrenar_core.estimate.engines import ENGINES, Engine
from entrenar_core.estimate.operations import relative_cost
from entrenar_core.estimate.requests import check_optimizer
from entrenar_core.estimate.setup import FULL, LORA
from entrenar_core.estimate.targets import ALL_LINEAR, matching
from entrenar_core.estimate.trained import trained_parameters
from entrenar_lora.methods import Method, parse_methods
from entrenar_lora.results import HOW, Quality, read_results


@dataclass(frozen=True)
class Training:
    """What all compared methods have in common."""

    batch_size: int = 1
    seq_len: int = 2048
    optimizer: str = "adamw"
    targets: tuple[str, ...] = (ALL_LINEAR,)
    checkpointing: bool = True


@dataclass(frozen=True)
class Row:
    """One method; `relative_speed` is full training's operations over its own, an estimate, and
    `fits` is None where no memory was stated."""

    method: str
    label: str
    bytes: int
    fits: bool | None
    trainable_parameters: int
    trainable_share: float
    relative_speed: float
    quality: Quality | None


@dataclass(frozen=True)
class Comparison:
    """Methods on one model; `note` says what is not shown."""

    model: str
    model_from: str
    parameters: int
    engine: str
    computed: str
    limit_bytes: int | None
    limit_text: str | None
    training: Training
    rows: tuple[Row, ...]
    note: str | None

    def __view__(self) -> list[Any]:
        training = self.training
        facts: list[tuple[str, Any]] = [
            ("model", f"{self.model} ({self.model_from}), {self.parameters:,} parameters"),
            ("batch", f"{training.batch_size} × {training.seq_len:,} tokens"),
            ("optimizer", training.optimizer),
            ("target modules", ", ".join(training.targets)),
            ("checkpointing", "on" if training.checkpointing else "off"),
        ]
        parts: list[Any] = [Fields(None, facts), self._table()]
        return [*parts, Text(self.note)] if self.note else parts

    def _table(self) -> Table:
        columns = ["method", "memory"]
        columns += ["fits"] if self.limit_bytes is not None else []
        columns += ["trainable", "of it", "speed"]
        measured = any(row.quality for row in self.rows)
        columns += ["held-out loss"] if measured else []
        rows = []
        for row in self.rows:
            fits = Text("yes", "good") if row.fits else Text("no", "bad")
            cells: list[Any] = [row.label, format_binary(row.bytes)]
            cells += [fits] if self.limit_bytes is not None else []
            cells += [
                format_count(row.trainable_parameters),
                f"{100 * row.trainable_share:.2f}%",
                f"{row.relative_speed:.2f}×",
            ]
            cells += [str(row.quality) if row.quality else None] if measured else []
            rows.append(cells)
        title = "Methods" + (f" in {self.limit_text}" if self.limit_text else "")
        caption = f"{self.computed[0].upper()}{self.computed[1:]}. Speed is beside full training, "
        caption += "estimated from operations; kernels and memory decide too."
        return Table(title, columns, rows, caption)


def compare(
    model: str,
    methods: str,
    training: Training,
    *,
    engine: str,
    limit: int | None,
    limit_text: str | None,
    results: Path | None,
) -> Comparison:
    """The methods named in `methods` on the model that `model` means.

    Raises UsageError for names that are no method or results of none of them, and what finding the
    model and reading the results raises.
    """
    chosen = ENGINES[engine]
    parsed = parse_methods(methods, chosen)
    check_optimizer(chosen, training.optimizer)
    quality = {} if results is None else read_results(results)
    _check_results(quality, parsed, results)
    shape = find_shape(model)
    rows = [_row(shape, chosen, method, training, limit, quality) for method in parsed]
    return Comparison(
        model=shape.name,
        model_from=shape.origin,
        parameters=shape.parameters,
        engine=chosen.name,
        computed=chosen.memory(shape, _setup(shape, parsed[0], training)).computed,
        limit_bytes=limit,
        limit_text=limit_text,
        training=training,
        rows=tuple(rows),
        note=None if quality else HOW,
    )


def _check_results(
    quality: Mapping[str, Quality], methods: Sequence[Method], results: Path | None
) -> None:
    if quality and not any(method.name in quality for method in methods):
        raise UsageError(
            f"--results {results}: no run of any of the compared methods",
            hint=f"it has runs of {', '.join(sorted(quality))}",
        )


def _setup(shape: ModelShape, method: Method, training: Training) -> Setup:
    targets = matching(shape.linears, training.targets) if method.rank else ()
    return Setup(
        method=LORA if method.rank else FULL,
        base=method.base,
        targets=targets,
        rank=method.rank,
        optimizer=training.optimizer,
        batch=training.batch_size,
        seq_len=training.seq_len,
        checkpointing=training.checkpointing,
    )


def _row(
    shape: ModelShape,
    engine: Engine,
    method: Method,
    training: Training,
    limit: int | None,
    quality: Mapping[str, Quality],
) -> Row:
    setup = _setup(shape, method, training)
    total, trained = engine.memory(shape, setup).total, trained_parameters(shape, setup)
    full = _setup(shape, Method("full", engine.full[0], 0), training)
    return Row(
        method=method.name,
        label=method.label,
        bytes=total,
        fits=None if limit is None else total <= limit,
        trainable_parameters=trained,
        trainable_share=trained / shape.parameters,
        relative_speed=relative_cost(shape, full) / relative_cost(shape, setup),
        quality=quality.get(method.name),
    )
