"""What a pass through a model can be asked to keep, as tensors that gradients pass through."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from entrenar_common.errors import ConfigError
from entrenar_core.autograd import Tensor, ops


@dataclass(frozen=True)
class Heads:
    """What attention computes with in one block, after rotary positions and norms of heads.

    q (B, T, H, D); k, v (B, S, G, D) with G dividing H. Query t looks at the keys that `causal`,
    `window` and `first` let it see, with softmax(scale · q kᵀ): see `ops.attention`.
    """

    q: Tensor
    k: Tensor
    v: Tensor
    scale: float
    causal: bool
    window: int | None
    first: np.ndarray | None = None

    def weights(self, mask: np.ndarray | None) -> Tensor:
        """The attention map (B, H, T, S), for the keys that count in `mask` (B, S)."""
        return ops.attention_weights(
            self.q, self.k, scale=self.scale, causal=self.causal, window=self.window, mask=mask,
            first=self.first,
        )  # fmt: skip


@dataclass(frozen=True)
class Wanted:
    """Which parts of a pass to keep.

    hidden_states: 0 for the embeddings and m for what leaves block number m − 1, the last one as
    the head sees it (after a final norm, where there is one); heads: blocks, counted from 0.
    """

    hidden_states: frozenset[int] = frozenset()
    heads: frozenset[int] = frozenset()

    def __or__(self, other: "Wanted") -> "Wanted":
        return Wanted(self.hidden_states | other.hidden_states, self.heads | other.heads)

    def checked(self, layers: int) -> "Wanted":
        """Itself. Raises ConfigError for what a model of that many layers has not."""
        strange = [f"the hidden state {i}" for i in self.hidden_states if not 0 <= i <= layers]
        strange += [f"the heads of layer {i}" for i in self.heads if not 0 <= i < layers]
        if strange:
            raise ConfigError(
                f"{', '.join(sorted(strange))} of a model with {layers} layers",
                hint=f"hidden states are 0 to {layers}, layers 0 to {layers - 1}",
            )
        return self


@dataclass
class Selected:
    """What was `wanted` of a pass, by the same numbers. Hidden states are (B, T, hidden)."""

    wanted: Wanted
    hidden_states: dict[int, Tensor] = field(default_factory=dict)
    heads: dict[int, Heads] = field(default_factory=dict)

    def keep_hidden(self, number: int, x: Tensor) -> None:
        """Keep hidden state `number`, if it is wanted."""
        if number in self.wanted.hidden_states:
            self.hidden_states[number] = x

    def keep_heads(self, layer: int, heads: Heads) -> None:
        """Keep those of block `layer`, if they are wanted."""
        if layer in self.wanted.heads:
            self.heads[layer] = heads


@dataclass
class Features:
    """All hidden states of a pass, and all attention maps if they were asked for.

    hidden_states: (B, T, hidden) of the embeddings and then of every block, the last one as the
    head sees it (after a final norm, where there is one); attentions: the weights (B, H, T, S) of
    every block.
    """

    hidden_states: list[Tensor] = field(default_factory=list)
    attentions: list[Tensor] = field(default_factory=list)


def everything(layers: int, *, heads: bool) -> Wanted:
    """All hidden states of a model with so many layers, and all heads too if they are asked for."""
    blocks = range(layers if heads else 0)
    return Wanted(frozenset(range(layers + 1)), frozenset(blocks))


def all_features(selected: Selected, mask: np.ndarray | None) -> Features:
    """`selected` in the order of the layers, with the maps that its heads make under `mask`."""
    counted = None if mask is None else np.asarray(mask).astype(bool)
    return Features(
        _ordered(selected.hidden_states),
        [heads.weights(counted) for heads in _ordered(selected.heads)],
    )


def _ordered(found: dict[int, Any]) -> list[Any]:
    return [found[number] for number in sorted(found)]
