"""What a merge did, in figures: how models differ from their base, from each other, and from what
became of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np

UNRELATED = 0.5
"""Fine-tuned models differ from their base by a few percent of its norm. Weights of two models that
were trained apart are at right angles, and so differ by more than their norm."""


@dataclass(frozen=True)
class Figures:
    """Of one tensor, or of all: with dᵢ what model i has more than the base, or its weights where
    there is none, and m what the result has.

    `base_norm` ‖base‖, None without one; `norms` ‖dᵢ‖; `cosines` between dᵢ and dₖ for i < k;
    `merged_norm` ‖m‖; `weights` the wᵢ for which Σ wᵢdᵢ comes nearest to m, which say how much of
    each model is in the result; `disagreement` the share of elements in which signs of dᵢ disagree.
    """

    base_norm: float | None
    norms: tuple[float, ...]
    cosines: tuple[float, ...]
    merged_norm: float
    weights: tuple[float, ...]
    disagreement: float


@dataclass(frozen=True)
class Observed:
    """What was measured of a tensor, or added up over some: the products of dᵢ, m and the base with
    each other, (n + 2, n + 2); the elements whose signs disagree, and all of them."""

    products: np.ndarray
    conflicts: int
    elements: int
    has_base: bool

    def __add__(self, other: "Observed") -> "Observed":
        return Observed(
            self.products + other.products,
            self.conflicts + other.conflicts,
            self.elements + other.elements,
            self.has_base,
        )

    def figures(self) -> Figures:
        """The figures that follow."""
        n = len(self.products) - 2
        norms = [sqrt(max(self.products[i, i], 0.0)) for i in range(n + 2)]
        weights = np.linalg.lstsq(self.products[:n, :n], self.products[:n, n])[0]
        return Figures(
            base_norm=norms[n + 1] if self.has_base else None,
            norms=tuple(norms[:n]),
            cosines=tuple(
                _ratio(self.products[i, k], norms[i] * norms[k])
                for i in range(n)
                for k in range(i + 1, n)
            ),
            merged_norm=norms[n],
            weights=tuple(map(float, weights)),
            disagreement=_ratio(self.conflicts, self.elements),
        )

    def plain(self) -> dict[str, Any]:
        """As what JSON knows."""
        return {
            "products": self.products.tolist(),
            "conflicts": self.conflicts,
            "elements": self.elements,
            "has_base": self.has_base,
        }

    @classmethod
    def of_plain(cls, value: Mapping[str, Any]) -> "Observed":
        """What `plain` was made of."""
        return cls(
            np.array(value["products"], np.float64),
            int(value["conflicts"]),
            int(value["elements"]),
            bool(value["has_base"]),
        )


def _ratio(a: float, b: float) -> float:
    return float(a / b) if b else 0.0


def unrelated(models: Sequence[str], total: Figures) -> list[str]:
    """What is to be said of models that do not seem to be made from the base, or, without one, from
    one and the same."""
    if total.base_norm:
        shares = [norm / total.base_norm for norm in total.norms]
        return [
            f"{model} differs from the base by {share:.0%} of its norm: it does not seem to be "
            "made from it"
            for model, share in zip(models, shares, strict=True)
            if share > UNRELATED
        ]
    n, found = len(models), []
    pairs = [(i, k) for i in range(n) for k in range(i + 1, n)]
    for (i, k), cosine in zip(pairs, total.cosines, strict=True):
        # two vectors of one norm at this cosine differ by UNRELATED of it
        if cosine < 1 - UNRELATED**2 / 2:
            found.append(
                f"{models[i]} and {models[k]} do not seem to be made from one model: the cosine "
                f"between their weights is {cosine:.2f}"
            )
    return found
