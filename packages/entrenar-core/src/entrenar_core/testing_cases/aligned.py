"""Cases of the loss between two vocabularies."""

from typing import Any

import numpy as np

from entrenar_core.kernels.aligned import FINITE, Matching
from entrenar_core.kernels.divergences import Divergence
from entrenar_core.testing_cases.case import Arguments, Case, Draw


def _rows(sizes: tuple[tuple[int, int], ...], gap: int) -> tuple[np.ndarray, int, int]:
    """Groups of these sizes with `gap` rows between them in the logits, and the rows there are."""
    found, ours, theirs = [], gap, 0
    for count, other in sizes:
        found.append((ours, count, theirs, other))
        ours, theirs = ours + count + gap, theirs + other
    return np.array(found, np.int64).reshape(-1, 4), ours, theirs


def _aligned(
    sizes: tuple[tuple[int, int], ...], ids: tuple[int, int], pairs: int,
    *, rows: tuple[int, int] | None = None, weights: tuple[float, float] = (0.6, 0.4), gap: int = 1,
    alpha: float = 0.5, spread: float = 2.0, ignored: float = 0.3, **divergence: Any,
) -> Case:  # fmt: skip
    chosen = Divergence(**{"temperature": 2.0, **divergence})
    groups, count, other = _rows(sizes, gap)
    width, other_width = rows or ids

    def make(d: Draw) -> Arguments:
        mine, theirs = (np.argsort(d.normal(n))[:pairs] for n in ids)
        targets = d.targets(ids[0], count, ignored)
        for first, several, _, _ in groups.tolist():
            inside = slice(first, first + several)
            targets[inside] = np.where(targets[inside] < 0, 0, targets[inside])
        return {
            "logits": d.normal(count, width) * d.dtype.type(spread),
            "teacher": d.normal(other, other_width) * d.dtype.type(spread),
            "targets": targets,
            "teacher_targets": d.ids(ids[1], other),
            "groups": groups,
            "matching": Matching(mine, theirs, *ids, *weights),
            "divergence": chosen,
            "alpha": alpha,
            "scale": 1 / count,
            "group_scale": 1 / max(1, len(groups)),
        }

    name = f"{len(sizes)} groups {sizes[:3]}, gap {gap}, {pairs} of {ids}, rows {rows}"
    return Case(f"{name}, {weights}, {alpha}, {spread}, {chosen}", make, scratch=("teacher",))


_MIXED = ((1, 1), (2, 1), (1, 3), (3, 2), (1, 1))

CASES: dict[str, list[Case]] = {
    "aligned.aligned_grad": [
        *(_aligned(_MIXED, (131, 120), 70, name=name, beta=0.3, skew=0.2) for name in FINITE),
        *(_aligned(_MIXED, (40, 131), 40, name=name, temperature=0.7) for name in FINITE),
        *(_aligned(_MIXED, (131, 40), 40, name=name, spread=8.0) for name in FINITE),
        _aligned(_MIXED, (50, 60), 0),
        _aligned(_MIXED, (50, 60), 30, rows=(64, 70), weights=(1.0, 0.0)),
        _aligned(_MIXED, (60, 60), 60, weights=(1.0, 0.0), gap=0, alpha=1.0),
        _aligned(_MIXED, (50, 60), 30, weights=(0.0, 1.0), gap=3),
        _aligned((), (50, 60), 30, gap=4),
        _aligned(((1, 1),) * 40, (700, 900), 300),
    ],
}
