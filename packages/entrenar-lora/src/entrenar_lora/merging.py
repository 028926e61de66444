"""What `entrenar-lora merge` does: adapters into their base, or several into one adapter."""

import math
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from entrenar_common.errors import UsageError
from entrenar_common.progress import NullProgress, Progress
from entrenar_common.tables import Fields, Table, Text
from entrenar_common.text import escape_controls
from entrenar_common.units import format_bytes, format_duration
from entrenar_core.convert.merge import GGUF, check_written, write_merged_model
from entrenar_core.lora.base import Base
from entrenar_core.lora.changes import Changes, Weighted, changes, touched
from entrenar_core.lora.combine import Cut, Nearest, Options, combination
from entrenar_core.lora.joined import Fitted, join
from entrenar_core.lora.merge import check_dtype, check_output
from entrenar_core.lora.merged import Merged
from entrenar_core.lora.stored import StoredAdapter
from entrenar_core.lora.write import check_adapter_output, write_adapter

SHOWN = 10
"""Modules that are shown of those that were cut."""

ROUNDING = 1e-6
"""Relative errors up to this are those of factors in float32."""


class Wanted(NamedTuple):
    """How adapters are combined: their weights, one for each; the scale of all; the rest as
    `entrenar_core.lora.combine` has it."""

    weights: tuple[float, ...] | None = None
    scale: float = 1.0
    method: str = "linear"
    rank: int | None = None
    density: float | None = None
    seed: int = 0
    alpha: float | None = None


@dataclass(frozen=True)
class AdapterUse:
    """An adapter, and what its update was multiplied by."""

    path: str
    factor: float


@dataclass(frozen=True)
class TouchedTensor:
    """A tensor that changes, and how."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    change: str


@dataclass(frozen=True)
class MergeReport:
    """A base with adapters in it. `written` is False for a dry run; `truncation` is the largest
    relative error of a sum that was cut to a rank, None where none was."""

    base: str
    adapters: tuple[AdapterUse, ...]
    method: str
    output: str | None
    written: bool
    tensors: int
    touched: tuple[TouchedTensor, ...]
    nbytes: int
    truncation: float | None
    notes: tuple[str, ...]
    seconds: float

    def __view__(self) -> list[Any]:
        items = [
            ("base", self.base),
            *((f"adapter × {use.factor:g}", use.path) for use in self.adapters),
            ("tensors", f"{self.tensors}, of which {len(self.touched)} change"),
        ]
        if len(self.adapters) > 1:
            items.insert(-1, ("method", self.method))
        if self.truncation is not None:
            items.append(("cut to rank", f"at most {self.truncation:.2%} of an update lost"))
        if not self.written:
            items.append(("would be written", format_bytes(self.nbytes)))
        else:
            items += [
                ("output", f"{self.output} ({format_bytes(self.nbytes)})"),
                ("time", format_duration(self.seconds)),
            ]
        notes = [Text(f"Note: {escape_controls(text)}", "warning") for text in self.notes]
        return [
            Fields("Merge, not done" if not self.written else "Merged", items),
            *self._table(),
            *notes,
        ]

    def _table(self) -> list[Table]:
        if self.written:
            return []
        rows = [(t.name, "×".join(map(str, t.shape)), t.dtype, t.change) for t in self.touched]
        return [Table("Tensors that change", ("Tensor", "Shape", "Type", "Change"), rows)]


@dataclass(frozen=True)
class JoinReport:
    """Several adapters as one; `fitted` says what each module lost by being cut to its rank."""

    adapters: tuple[AdapterUse, ...]
    method: str
    output: str | None
    written: bool
    modules: int
    rank: int
    worst_error: float
    fitted: tuple[Fitted, ...]

    def __view__(self) -> list[Any]:
        items = [
            *((f"adapter × {use.factor:g}", use.path) for use in self.adapters),
            ("method", self.method),
            ("modules", self.modules),
            ("rank", self.rank),
            ("lost by cutting", lost(self.worst_error)),
            ("output" if self.written else "not written", self.output or "a dry run"),
        ]
        return [Fields("Adapters combined", items), *fitted_table(self.fitted)]


def lost(worst: float) -> str:
    """The largest error of a module, in words."""
    return f"at most {worst:.3%} of a module's update" if worst > ROUNDING else "nothing"


def fitted_table(fitted: Sequence[Fitted]) -> list[Table]:
    """The modules that lost most, if any lost something."""
    worst = sorted(fitted, key=lambda found: -found.error)[:SHOWN]
    rows = [(f.module, f.rank, f"{f.error:.3%}") for f in worst if f.error > ROUNDING]
    caption = f"The {len(rows)} that lost most of {len(fitted)}; all of them with --json."
    if len(rows) == len(fitted):
        caption = "‖ΔW' − ΔW‖ / ‖ΔW‖ of each module."
    columns = ("Module", "Rank", "Lost")
    return [Table("What the rank cuts off", columns, rows, caption)] if rows else []


def merge_into_base(
    base: str,
    adapters: Sequence[str],
    output: str | None,
    wanted: Wanted,
    *,
    dtype: str | None = None,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> MergeReport:
    """Merge `adapters` into the model at `base`, and write it to `output`; with `dry_run`, only
    say what would be done. Raises what `lora.changes` and `convert.merge` of core raise."""
    started = time.monotonic()
    target = None if output is None else Path(output)
    with ExitStack() as stack:
        opened = stack.enter_context(Base(Path(base)))
        weighted = _open(stack, adapters, wanted)
        to_gguf = target is not None and target.suffix.lower() == GGUF
        if target is not None:
            check_output(target, [Path(base), *map(Path, adapters)])
            check_written(opened, target, dtype)
        elif dtype is not None:
            check_dtype(dtype)
        found = changes(opened, weighted)
        combine = combination(wanted.method, weighted, _options(wanted))
        merged = Merged(
            opened, found, combine=combine, dtype=None if to_gguf else dtype, progress=progress
        )
        size = sum(tensor.nbytes for tensor in merged.values())
        written = target is not None and not dry_run
        if target is not None and written:
            paths = write_merged_model(merged, target, recipe=dtype if to_gguf else None)
            size = sum(path.stat().st_size for path in paths)
        return MergeReport(
            base=base,
            adapters=_uses(weighted),
            method=wanted.method,
            output=output,
            written=written,
            tensors=len(merged),
            touched=_touched(merged, found),
            nbytes=size,
            truncation=max(combine.errors.values(), default=None)
            if isinstance(combine, Cut | Nearest)
            else None,
            notes=found.notes,
            seconds=time.monotonic() - started,
        )


def merge_adapters(
    adapters: Sequence[str],
    output: str | None,
    wanted: Wanted,
    *,
    base: str | None = None,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> JoinReport:
    """Make one adapter of several, and write it to `output`; with `dry_run`, only say what it would
    be. With `base`, check first that all are adapters of it."""
    target = None if output is None else Path(output)
    with ExitStack() as stack:
        weighted = _open(stack, adapters, wanted)
        if target is not None:
            check_output(target, list(map(Path, adapters)))
            check_adapter_output(target)
        if base is not None:
            changes(stack.enter_context(Base(Path(base))), weighted)
        content, fitted = join(
            weighted,
            method=wanted.method,
            options=_options(wanted),
            progress=progress or NullProgress(),
        )
        written = target is not None and not dry_run
        if target is not None and written:
            write_adapter(target, content)
        return JoinReport(
            adapters=_uses(weighted),
            method=wanted.method,
            output=output,
            written=written,
            modules=len(fitted),
            rank=max((f.rank for f in fitted), default=0),
            worst_error=max((f.error for f in fitted), default=0.0),
            fitted=tuple(fitted),
        )


def _open(stack: ExitStack, adapters: Sequence[str], wanted: Wanted) -> list[Weighted]:
    if not math.isfinite(wanted.scale):
        raise UsageError(f"a scale of {wanted.scale}", hint="give a finite number")
    weights = wanted.weights or (1.0,) * len(adapters)
    if len(weights) != len(adapters):
        raise UsageError(
            f"{len(weights)} weights for {len(adapters)} adapters",
            hint="give one weight for each, in the order of the adapters, such as 0.7,0.3",
        )
    opened = [stack.enter_context(StoredAdapter(p, alpha=wanted.alpha)) for p in adapters]
    return [Weighted(a, w * wanted.scale) for a, w in zip(opened, weights, strict=True)]


def _options(wanted: Wanted) -> Options:
    return Options(wanted.rank, wanted.density, wanted.seed)


def _uses(weighted: Sequence[Weighted]) -> tuple[AdapterUse, ...]:
    return tuple(AdapterUse(str(w.adapter.path), w.factor) for w in weighted)


def _touched(merged: Merged, found: Changes) -> tuple[TouchedTensor, ...]:
    return tuple(
        TouchedTensor(
            change.tensor, change.shape, str(merged[change.tensor].dtype), ", ".join(change.words())
        )
        for change in touched(found)
    )
