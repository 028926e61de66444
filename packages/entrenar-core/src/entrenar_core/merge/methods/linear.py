"""Methods of one step: the weighted mean, a tensor as it is, and what is near swapped."""

import numpy as np

from entrenar_common.errors import ConfigError
from entrenar_core.kernels import merging
from entrenar_core.merge.group import Block, Group
from entrenar_core.merge.method import PerInput, Rule, method
from entrenar_core.merge.numbers import Numbers


@method("linear", source="https://arxiv.org/abs/2203.05482", base="ignored")
def linear(group: Group, *, weight: PerInput, normalize: bool = True) -> Rule:
    """Σ wᵢθᵢ, divided by Σ wᵢ if normalized; summed in float32, whatever the working type."""
    weights = np.array(weight, np.float32)
    divisor = float(np.cumsum(weights, dtype=np.float32)[-1]) if normalize else None
    if divisor == 0:
        raise ConfigError(
            f"{group.key}: the weights {', '.join(f'{w:g}' for w in weights)} sum to 0",
            hint="give other weights, or normalize: false",
        )

    def rule(block: Block) -> np.ndarray:
        flat = block.inputs.reshape(len(weights), -1)
        return merging.weighted_sum(flat, weights, divisor=divisor).reshape(block.shape)

    return rule


@method("passthrough", source="", base="ignored", inputs=(1, 1), symmetric=False)
def passthrough(group: Group, *, scale: PerInput = None) -> Rule:
    """The one tensor that there is, times `scale` if one is given."""
    r, factor = Numbers(group.work), scale[0]

    def rule(block: Block) -> np.ndarray:
        found = block.inputs[0].copy()
        return found if factor is None else r(found * np.float32(factor))

    return rule


@method(
    "nearswap",
    source="https://huggingface.co/alchemonaut/QuartetAnemoi-70B-t0.0001",
    inputs=(2, 2),
    symmetric=False,
    lone="base",
)
def nearswap(group: Group, *, t: float) -> Rule:
    """The base moved towards the other model by the share min(t/|difference|, 1)."""
    r = Numbers(group.work)

    def rule(block: Block) -> np.ndarray:
        a, b = block.base, block.models[0]
        distance = np.maximum(np.abs(r(a - b)), r(1e-6))
        share = np.clip(r(np.float32(t) * r(1 / distance)), 0, 1)  # as torch divides a number
        return r(r(share * b) + r(r(1 - share) * a))

    return rule
