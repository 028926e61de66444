"""What the blocks of the encoders BERT, RoBERTa and DistilBERT are made of.

Their checkpoints name the same parts differently, so the parts are functions of the modules that
hold the weights.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from entrenar_core.autograd import Tensor, ops
from entrenar_core.models.forward import Forward, attend
from entrenar_core.nn import Dropout, Linear


class Activation(NamedTuple):
    """A function of a tensor, alone and fused with the projection that follows it."""

    apply: Callable[[Tensor], Tensor]
    linear: Callable[..., Tensor]

    def project(self, x: Tensor, linear: Linear, residual: Tensor | None) -> Tensor:
        """linear(apply(x)) + residual."""
        if not linear.fusible:
            return linear(self.apply(x), residual)
        return self.linear(x, linear.weight, linear.bias, residual)


ACTIVATIONS = {
    "gelu": Activation(ops.gelu, partial(ops.gelu_linear, approximate=False)),
    "gelu_new": Activation(
        partial(ops.gelu, approximate=True), partial(ops.gelu_linear, approximate=True)
    ),
    "relu": Activation(ops.relu, ops.relu_linear),
}
"""Name in a config → activation; `gelu_new` is the approximation by tanh."""


def self_attention(
    x: Tensor,
    projections: tuple[Linear, Linear, Linear],
    heads: int,
    layer: int,
    forward: Forward,
    dropout: Dropout,
) -> Tensor:
    """Every position of x (B, T, hidden) attends to all that count → (B, T, hidden)."""
    batch, time, hidden = x.shape
    q, k, v = (
        ops.reshape(projection(x), (batch, time, heads, hidden // heads))
        for projection in projections
    )  # (B, T, H, D)
    scale = (hidden // heads) ** -0.5
    o = attend(q, k, v, layer, forward, scale=scale, causal=False, dropout=dropout)
    return ops.reshape(o, (batch, time, hidden))
