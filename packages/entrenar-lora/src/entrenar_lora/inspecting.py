"""What `entrenar-lora inspect` shows of an adapter, and of two."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import Any

from entrenar_common.progress import Progress
from entrenar_common.tables import Fields, Table, Text
from entrenar_common.text import escape_controls
from entrenar_common.units import format_bytes
from entrenar_core.lora.inspection import (
    Comparison,
    Facts,
    ModuleFacts,
    SharedModule,
    compare,
    facts,
)
from entrenar_core.lora.stored import StoredAdapter

LEVELS = " ▁▂▃▄▅▆▇█"
BAR = 12
"""Columns of a bar, and of the bars of all blocks of one kind of module."""


@dataclass(frozen=True)
class InspectReport:
    """What is in an adapter; `comparison` with a second one. `every_module` asks for a table of all
    modules instead of one of their kinds."""

    adapter: Facts
    comparison: Comparison | None
    other: str | None
    every_module: bool = field(default=False)

    @property
    def is_sound(self) -> bool:
        """Whether settings and tensors agree and all numbers are finite."""
        return not self.adapter.contradictions and not self.adapter.not_finite

    def __view__(self) -> list[Any]:
        found = self.adapter
        parts: list[Any] = [Fields("Adapter", _summary(found))]
        parts += [Text(f"Contradiction: {text}", "bad") for text in found.contradictions]
        parts += [
            Text(f"Not finite: {part.not_finite} numbers of {escape_controls(part.name)}", "bad")
            for part in (*found.modules, *found.whole)
            if part.not_finite
        ]
        if found.modules:
            parts.append(_modules(found) if self.every_module else _kinds(found))
        if found.whole:
            rows = [(w.name, "×".join(map(str, w.shape)), f"{w.parameters:,}") for w in found.whole]
            parts.append(Table("Whole tensors", ("Tensor", "Shape", "Numbers"), rows))
        if self.comparison:
            parts += _compared(self.comparison, self.other or "")
        return parts


def inspect(
    path: str,
    other: str | None = None,
    *,
    base: str | None = None,
    alpha: float | None = None,
    every_module: bool = False,
    progress: Progress | None = None,
) -> InspectReport:
    """Read the adapter at `path`, and what it has in common with the one at `other`."""
    with ExitStack() as stack:
        first = stack.enter_context(StoredAdapter(path, alpha=alpha, tolerant=True))
        found = facts(first, base=Path(base) if base else None, progress=progress)
        comparison = None
        if other is not None:
            second = stack.enter_context(StoredAdapter(other, alpha=alpha, tolerant=True))
            comparison = compare(first, second)
    return InspectReport(found, comparison, other, every_module)


def _summary(found: Facts) -> list[tuple[str, Any]]:
    ranks = [module.rank for module in found.modules]
    known = [module for module in found.modules if module.effective_rank is not None]
    items: list[tuple[str, Any]] = [
        ("file", f"{found.path} ({format_bytes(found.nbytes)})"),
        ("base", found.base_model),
        ("kind", ", ".join(("LoRA", *found.kinds))),
        ("rank", _range(found.rank, ranks)),
        ("alpha", f"{found.alpha:g}"),
        ("scale", f"{_scales(found)} (alpha/{'√' if 'rsLoRA' in found.kinds else ''}rank)"),
        ("target modules", _targets(found)),
        ("parameters", f"{found.parameters:,}"),
    ]
    if known:
        mean = fmean(module.effective_rank or 0 for module in known)
        used = fmean((module.effective_rank or 0) / module.rank for module in known)
        energy = fmean(module.energy_rank or 0 for module in known)
        items += [
            ("effective rank", f"{mean:.1f} (entropy of singular values), {used:.1%} of the rank"),
            ("for 90 % energy", f"rank {energy:.1f} (mean of the modules)"),
        ]
    relative = [m.relative_norm for m in found.modules if m.relative_norm is not None]
    if relative:
        items.append(("‖ΔW‖ / ‖W‖", f"{fmean(relative):.3%} mean, {max(relative):.3%} at most"))
    items += [
        ("sparsity", f"{found.sparsity:.1%} of A and B are zero"),
        ("not finite", found.not_finite or "none"),
    ]
    return [item for item in items if item[1] is not None]


def _range(stated: int, found: Sequence[int]) -> str:
    low, high = min(found, default=stated), max(found, default=stated)
    return str(stated) if low == high == stated else f"{stated} ({low} to {high} by module)"


def _scales(found: Facts) -> str:
    values = sorted({module.scale for module in found.modules}) or [found.scale]
    text = f"{found.scale:.4g}"
    return text if len(values) == 1 else f"{text}, {values[0]:.4g} to {values[-1]:.4g} by module"


def _targets(found: Facts) -> str:
    """How many, and which of how many blocks."""
    if not found.modules:
        return "none"
    inside = [module for module in found.modules if module.layer is not None]
    names = ", ".join(dict.fromkeys(_short(module.kind) for module in inside))
    blocks = len({module.layer for module in inside})
    parts = [f"{names} × {blocks} blocks"] if inside else []
    parts += [module.name for module in found.modules if module.layer is None]
    return f"{len(found.modules)} ({'; '.join(parts)})"


def _short(kind: str) -> str:
    return kind.rpartition(".")[2]


def _grouped(modules: Iterable[Any]) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for module in modules:
        found.setdefault(_short(module.kind), []).append(module)
    return found


def _size(module: ModuleFacts) -> float | None:
    return module.norm if module.relative_norm is None else module.relative_norm


def _kinds(found: Facts) -> Table:
    """A row for each kind of module, with a bar for each block."""
    relative = any(module.relative_norm is not None for module in found.modules)
    most = max((_size(module) or 0 for module in found.modules), default=0)
    rows = []
    for kind, modules in _grouped(found.modules).items():
        ordered = sorted(modules, key=lambda module: module.layer or 0)
        sizes = [_size(module) or 0.0 for module in ordered]
        rows.append(
            (
                kind,
                len(modules),
                f"{modules[0].outputs}×{modules[0].inputs}",
                _mean(module.effective_rank for module in modules),
                _mean(module.energy_rank for module in modules),
                f"{fmean(sizes):.3%}" if relative else f"{fmean(sizes):.4g}",
                bars(sizes, most),
            )
        )
    size = "‖ΔW‖/‖W‖" if relative else "‖ΔW‖"
    return Table(
        "Modules",
        ("Module", "Count", "Shape", "Eff. rank", "90 %", size, "By block"),
        rows,
        caption="Means of the modules of a kind; bars: the norm, from the first block to the last.",
    )


def _mean(values: Iterable[float | None]) -> str:
    known = [value for value in values if value is not None]
    return f"{fmean(known):.1f}" if known else "–"


def bars(sizes: Sequence[float], most: float, width: int = BAR) -> str:
    """A bar for each size, as high as it is beside `most`; of too many, the largest of neighbours.

    >>> bars([1, 2, 4], 4)
    '▂▄█'
    """
    count = min(width, len(sizes))
    bounds = [round(i * len(sizes) / count) for i in range(count + 1)] if count else [0]
    largest = [max(sizes[a:b]) for a, b in pairwise(bounds)]
    return "".join(LEVELS[round(8 * size / most) if most else 0] for size in largest)


def _modules(found: Facts) -> Table:
    """A row for each module."""
    relative = any(module.relative_norm is not None for module in found.modules)
    most = max((_size(module) or 0 for module in found.modules), default=0)
    rows = []
    for module in found.modules:
        size = _size(module)
        shown = "–" if size is None else f"{size:.3%}" if relative else f"{size:.4g}"
        rows.append(
            (
                module.name,
                module.rank,
                _mean([module.effective_rank]),
                module.energy_rank,
                shown,
                "█" * round(BAR / 2 * (size or 0) / most) if most else "",
            )
        )
    size_name = "‖ΔW‖/‖W‖" if relative else "‖ΔW‖"
    return Table("Modules", ("Module", "Rank", "Eff.", "90 %", size_name, ""), rows)


def _compared(found: Comparison, other: str) -> list[Any]:
    items = [
        ("with", other),
        ("modules of both", len(found.shared)),
        ("only in the first", len(found.only_first)),
        ("only in the second", len(found.only_second)),
        ("cosine of the updates", f"{found.cosine:+.4f}"),
    ]
    rows = [
        (kind, len(modules), *_overlaps(modules))
        for kind, modules in _grouped(found.shared).items()
    ]
    columns = ("Module", "Count", "Outputs", "Inputs", "Cosine")
    caption = (
        "Overlap of the spaces that the updates write to and read from: 0 is orthogonal, 1 is the "
        "same space."
    )
    table = [Table("Subspaces", columns, rows, caption)] if rows else []
    return [Fields("Compared", items), *table]


def _overlaps(modules: Sequence[SharedModule]) -> tuple[str, str, str]:
    read: tuple[Callable[[SharedModule], float], ...] = (
        lambda m: m.outputs,
        lambda m: m.inputs,
        lambda m: m.cosine,
    )
    outputs, inputs, cosine = (fmean(map(one, modules)) for one in read)
    return f"{outputs:.3f}", f"{inputs:.3f}", f"{cosine:+.4f}"
