"""Sign election as TIES's authors and PEFT define it: by the sum of the changes without weights,
and the mean of those elements that have the elected sign.

Yadav et al. 2023 (arXiv:2306.01708) and the code of its authors trim whole models at once; PEFT
(`peft.utils.merge_utils`) trims tensor by tensor.
"""

from collections.abc import Sequence

import numpy as np

from entrenar_common.errors import ConfigError
from entrenar_core.merge.group import Block, Group, Whole
from entrenar_core.merge.method import Rule
from entrenar_core.merge.numbers import Numbers
from entrenar_core.merge.selection import ranked
from entrenar_core.merge.trimming import Trim

SEMANTICS = ("mergekit", "paper", "peft")


def check_semantics(name: str) -> None:
    """Raise ConfigError for what is none of SEMANTICS."""
    if name not in SEMANTICS:
        raise ConfigError(
            f"no semantics are called {name!r}", hint=f"give one of {', '.join(SEMANTICS)}"
        )


def elected_mean(group: Group, trim: Trim | None, weight: Sequence[float], factor: float) -> Rule:
    """PEFT's: Σ wᵢdᵢ over those dᵢ that have the sign of Σ dᵢ, + where that is 0, divided by how
    many they are; times λ, added to the base."""
    r = Numbers(group.work)
    weights = r(np.array(weight, np.float32))[:, None, None]

    def rule(block: Block) -> np.ndarray:
        changes = block.changes if trim is None else trim(block.changes)
        sign = np.where(r(changes.sum(axis=0, dtype=np.float32)) >= 0, 1, -1)
        counts = np.sign(changes) == sign
        total = r((r(changes * weights) * counts).sum(axis=0, dtype=np.float32))
        mean = r(total / np.maximum(counts.sum(axis=0, dtype=np.float32), 1))
        return r(block.base + r(mean * np.float32(factor)))

    return rule


def paper_ties(
    group: Group, density: Sequence[float], weight: Sequence[float], factor: float
) -> Rule:
    """The authors': only what is as large as the smallest element that is kept of the whole model;
    the mean of those dᵢ that are not 0 and have the sign of Σ dᵢ, that of most elements where it is
    0. There are no weights: ConfigError for any but 1."""
    unweighted(weight, "ties")
    whole = group.whole or whole_model([group], density)
    r, least = Numbers(group.work), np.array(whole.least, np.float32)[:, None, None]

    def rule(block: Block) -> np.ndarray:
        changes = _trimmed(block.changes, least)
        sign = np.sign(changes.sum(axis=0, dtype=np.float32))
        sign = np.where(sign == 0, whole.sign, sign)
        counts = np.where(sign > 0, changes > 0, changes < 0)
        total = (changes * counts).sum(axis=0, dtype=np.float32)
        mean = r(total / np.maximum(counts.sum(axis=0, dtype=np.float32), 1))
        return r(block.base + r(mean * np.float32(factor)))

    return rule


def unweighted(weight: Sequence[float], name: str) -> None:
    """Raise ConfigError for weights that a paper does not have."""
    if any(w != 1 for w in weight):
        raise ConfigError(
            f"{name} as the paper has it has no weights, and there are "
            f"{', '.join(f'{w:g}' for w in weight)}",
            hint="leave weight out, or make it 1, and give lambda",
        )


def whole_model(groups: Sequence[Group], density: Sequence[float]) -> Whole:
    """What `paper_ties` needs to know of all tensors of the models, in three passes over them."""
    size = sum(group.size for group in groups)
    ranks = [[max(0, size - int(share * size) - 1)] for share in density]
    found = ranked(groups, lambda block: block.changes.reshape(len(density), -1), ranks)
    least = tuple(
        -1.0 if share >= 1 else one[0].magnitude for one, share in zip(found, density, strict=True)
    )
    bounds, total = np.array(least, np.float32)[:, None, None], 0
    for group in groups:
        for block in group.blocks():
            changes = _trimmed(block.changes, bounds)
            total += int(np.sign(changes.sum(axis=0, dtype=np.float32)).sum())
    return Whole(least, 1 if total > 0 else -1)


def _trimmed(changes: np.ndarray, least: np.ndarray) -> np.ndarray:
    return np.where(np.abs(changes) >= least, changes, np.float32(0))
