"""Methods that add task vectors to a base: dᵢ = θᵢ − θ_base, trimmed or not, weighted, summed.

In the order of mergekit: dᵢ is trimmed, and rescaled to its norm if asked for; wᵢdᵢ; signs are
elected; summed; divided by the sum of the weights if normalized; times λ; added to the base.
"""

from collections.abc import Callable

import numpy as np

from entrenar_core.kernels import merging
from entrenar_core.merge.elected import check_semantics, elected_mean, paper_ties, unweighted
from entrenar_core.merge.group import Block, Group
from entrenar_core.merge.method import PerModel, Rule, method
from entrenar_core.merge.numbers import Numbers
from entrenar_core.merge.trimming import (
    Divided,
    Trim,
    between,
    drawn,
    drawn_by_rank,
    largest,
    rescaling,
)

TASK_ARITHMETIC = "https://arxiv.org/abs/2212.04089"
TIES = "https://arxiv.org/abs/2306.01708"
DARE = "https://arxiv.org/abs/2311.03099"
BREADCRUMBS = "https://arxiv.org/abs/2312.06795"
DELLA = "https://arxiv.org/abs/2406.11617"

Settings = tuple[PerModel, PerModel, bool, bool, float]
"""Weights, densities, whether to normalize and to rescale, λ."""


def _rule(group: Group, trim: Trim | None, settings: Settings, *, elect: bool) -> Rule:
    weight, density, normalize, rescale, factor = settings
    r, work = Numbers(group.work), group.work.name
    weights = np.array([r(w) for w in weight], np.float32)
    factors = None
    if trim is not None and rescale and min(density, default=1.0) < 1:
        factors = rescaling(group, trim, density)

    def rule(block: Block) -> np.ndarray:
        if not len(weights):
            return block.base.copy()
        deltas = block.changes if trim is None else trim(block.changes)
        flat = deltas.reshape(len(deltas), -1)
        if factors is not None:
            merging.scale_rows(flat, factors, work=work)
        return merging.consensus(
            flat, weights, block.base.reshape(-1), elect=elect, normalize=normalize,
            factor=factor, work=work,
        ).reshape(block.shape)  # fmt: skip

    return rule


def _trimmed(density: PerModel, trim: Callable[[], Trim]) -> Trim | None:
    """No trim where everything is kept."""
    return trim() if min(density, default=1.0) < 1 else None


@method("task_arithmetic", source=TASK_ARITHMETIC)
def task_arithmetic(
    group: Group,
    *,
    weight: PerModel,
    normalize: bool = False,
    lambda_: float = 1.0,
) -> Rule:
    """base + λ·Σ wᵢdᵢ."""
    return _rule(group, None, (weight, (), normalize, False, lambda_), elect=False)


@method("ties", source=TIES)
def ties(
    group: Group,
    *,
    weight: PerModel,
    density: PerModel = 1.0,
    normalize: bool = True,
    rescale: bool = False,
    lambda_: float = 1.0,
    semantics: str = "mergekit",
) -> Rule:
    """The largest elements of each task vector, and of these the ones with the elected sign.

    With the semantics of the paper or of PEFT there is neither normalize nor rescale.
    """
    check_semantics(semantics)
    if semantics == "paper":
        return paper_ties(group, density, weight, lambda_)
    trim = _trimmed(density, lambda: largest(group, density))
    if semantics == "peft":
        return elected_mean(group, trim, weight, lambda_)
    return _rule(group, trim, (weight, density, normalize, rescale, lambda_), elect=True)


@method("dare_linear", source=DARE)
def dare_linear(
    group: Group,
    *,
    weight: PerModel,
    density: PerModel = 1.0,
    normalize: bool = False,
    rescale: bool = True,
    lambda_: float = 1.0,
    semantics: str = "mergekit",
) -> Rule:
    """Drawn elements of each task vector, rescaled to its norm; with the semantics of the paper or
    of PEFT divided by the density."""
    check_semantics(semantics)
    trim = _trimmed(density, lambda: drawn(group, density))
    if semantics != "mergekit":
        trim = None if trim is None else Divided(trim, density, group.work)
        rescale = False
    return _rule(group, trim, (weight, density, normalize, rescale, lambda_), elect=False)


@method("dare_ties", source=DARE)
def dare_ties(
    group: Group,
    *,
    weight: PerModel,
    density: PerModel = 1.0,
    normalize: bool = False,
    rescale: bool = True,
    lambda_: float = 1.0,
    semantics: str = "mergekit",
) -> Rule:
    """Drawn elements of each task vector, rescaled to its norm, and of these the ones with the
    elected sign; with the semantics of the paper or of PEFT divided by the density, and their
    mean."""
    check_semantics(semantics)
    trim = _trimmed(density, lambda: drawn(group, density))
    if semantics != "mergekit":
        if semantics == "paper":
            unweighted(weight, "dare_ties")
        trim = None if trim is None else Divided(trim, density, group.work)
        return elected_mean(group, trim, weight, lambda_)
    return _rule(group, trim, (weight, density, normalize, rescale, lambda_), elect=True)


@method("breadcrumbs", source=BREADCRUMBS)
def breadcrumbs(
    group: Group,
    *,
    weight: PerModel,
    density: PerModel = 1.0,
    gamma: PerModel = 0.01,
    normalize: bool = False,
    rescale: bool = False,
    lambda_: float = 1.0,
) -> Rule:
    """Neither the largest nor the smallest elements of each task vector."""
    trim = _trimmed(density, lambda: between(group, density, gamma))
    return _rule(group, trim, (weight, density, normalize, rescale, lambda_), elect=False)


@method("breadcrumbs_ties", source=BREADCRUMBS)
def breadcrumbs_ties(
    group: Group,
    *,
    weight: PerModel,
    density: PerModel = 1.0,
    gamma: PerModel = 0.01,
    normalize: bool = False,
    rescale: bool = False,
    lambda_: float = 1.0,
) -> Rule:
    """As `breadcrumbs`, and of these elements the ones with the elected sign."""
    trim = _trimmed(density, lambda: between(group, density, gamma))
    return _rule(group, trim, (weight, density, normalize, rescale, lambda_), elect=True)


@method("della", source=DELLA)
def della(
    group: Group,
    *,
    weight: PerModel,
    density: PerModel = 1.0,
    epsilon: PerModel = 0.15,
    normalize: bool = True,
    rescale: bool = True,
    lambda_: float = 1.0,
) -> Rule:
    """Elements drawn by rank, and of these the ones with the elected sign."""
    trim = _trimmed(density, lambda: drawn_by_rank(group, density, epsilon))
    return _rule(group, trim, (weight, density, normalize, rescale, lambda_), elect=True)


@method("della_linear", source=DELLA)
def della_linear(
    group: Group,
    *,
    weight: PerModel,
    density: PerModel = 1.0,
    epsilon: PerModel = 0.15,
    normalize: bool = False,
    rescale: bool = True,
    lambda_: float = 1.0,
) -> Rule:
    """Elements drawn by rank."""
    trim = _trimmed(density, lambda: drawn_by_rank(group, density, epsilon))
    return _rule(group, trim, (weight, density, normalize, rescale, lambda_), elect=False)
