"""Adapters where they work: beside the weight of a projection or of a table of vectors."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from entrenar_common.errors import ConfigError
from entrenar_core import kernels
from entrenar_core.autograd import Parameter, Tensor, ops
from entrenar_core.lora.update import Update, row_squares
from entrenar_core.nn import Dropout, Embedding, Module, Projection


class LowRank(Module):
    """One adapter of one module: A (r, in), B (out, r) and, where there are such, the bias of B and
    the lengths of rows (DoRA), both (out,). See `lora.update` for what they mean.

    With DoRA the lengths that rows have are constants for the gradient.
    Source: Liu et al. 2024, arXiv:2402.09353 §4.3.
    """

    def __init__(self, update: Update, *, dropout: float):
        self.lora_A, self.lora_B = Parameter(update.a), Parameter(update.b)
        self.scale, self.embedding, self.transposed = (
            update.scale, update.embedding, update.transposed,
        )  # fmt: skip
        own = None if update.bias is None else update.bias / self.lora_B.dtype.type(self.scale)
        self.bias = None if own is None else Parameter(own)
        self.magnitude = None if update.magnitude is None else Parameter(update.magnitude)
        self.dropout = Dropout(dropout)
        self._squares: tuple[Any, np.ndarray] | None = None

    def update(self) -> Update:
        """What it does, as arrays: views of the parameters."""
        bias = None if self.bias is None else self.bias.data * self.bias.dtype.type(self.scale)
        magnitude = None if self.magnitude is None else self.magnitude.data
        return Update(
            self.lora_A.data, self.lora_B.data, self.scale, bias, magnitude,
            self.embedding, self.transposed,
        )  # fmt: skip

    def project(self, projection: Projection, x: Tensor, residual: Tensor | None) -> Tensor:
        """What `projection` with this update makes of x (..., in), plus the residual."""
        dropped = self._dropped(x)
        if self.magnitude is None:
            bias = self._bias(projection.bias)
            return self._product(projection.weight, x, dropped, bias, residual)
        gains = self._gains(projection.weight)
        if dropped is None:
            y = self._product(projection.weight, x) * gains
            return _plus(_plus(y, projection.bias), residual)
        # as PEFT has it, only what the adapter changes sees the dropped input
        change = self._product(projection.weight, dropped) * gains
        plain = _without_bias(projection, dropped)
        return projection.affine(x, residual) + (change - plain)

    def beside(self, x: Tensor) -> Tensor:
        """s·(x Aᵀ) Bᵀ alone, for an adapter that is added to others."""
        dropped = self._dropped(x)
        inner = ops.linear(x if dropped is None else dropped, self.lora_A) * self.scale
        return ops.linear(inner, self.lora_B, self._bias(None))

    def weight(self, weight: Tensor) -> Tensor:
        """The whole updated weight."""
        found = ops.low_rank_weight(
            weight, self.lora_A, self.lora_B, scale=self.scale, transposed=self.transposed
        )
        if self.magnitude is None:
            return found
        gains = self._gains(weight)
        return found * (gains if self.transposed else ops.unsqueeze(gains, 1))

    def look_up(self, table: Embedding, ids: np.ndarray, y: Tensor) -> Tensor:
        """y, the rows at `ids` of `table`, with this update."""
        inner = ops.embedding(ops.transpose(self.lora_A), ids, padding_idx=table.padding)
        y = ops.linear(inner * self.scale, self.lora_B, None, y)
        return y if self.magnitude is None else y * self._gains(table.weight)

    def _dropped(self, x: Tensor) -> Tensor | None:
        found = self.dropout(x)
        return None if found is x else found

    def _bias(self, bias: Tensor | None) -> Tensor | None:
        if self.bias is None:
            return bias
        return self.bias * self.scale if bias is None else bias + self.bias * self.scale

    def _product(
        self,
        weight: Tensor,
        x: Tensor,
        dropped: Tensor | None = None,
        bias: Tensor | None = None,
        residual: Tensor | None = None,
    ) -> Tensor:
        return ops.low_rank_linear(
            x, weight, self.lora_A, self.lora_B, dropped, bias, residual,
            scale=self.scale, transposed=self.transposed,
        )  # fmt: skip

    def _gains(self, weight: Tensor) -> Tensor:
        """What each output is multiplied by: its length over that of its row."""
        assert self.magnitude is not None
        return ops.div(self.magnitude, self._row_norms(weight))

    def _row_norms(self, weight: Tensor) -> np.ndarray:
        """‖W + s·B·A‖ for each output, without the sum: its square is
        ‖w‖² + 2s (W Aᵀ)·b + s² bᵀ (A Aᵀ) b."""
        a, b, scale = self.lora_A.data, self.lora_B.data, self.scale
        across = kernels.matmul(a, weight.data, trans_b=not self.transposed)  # (r, out)
        gram = kernels.matmul(a, a, trans_b=True).astype(np.float64)  # (r, r)
        wide = b.astype(np.float64)
        squares = self._weight_squares(weight)
        squares = squares + 2 * scale * np.einsum("ro,or->o", across, wide)
        squares += scale**2 * np.einsum("or,or->o", wide @ gram, wide)
        return np.sqrt(np.maximum(squares, 0)).astype(b.dtype)

    def _weight_squares(self, weight: Tensor) -> np.ndarray:
        # those of a frozen weight do not change while it is the same array
        if weight.requires_grad:
            return row_squares(weight.data, transposed=self.transposed)
        if self._squares is None or self._squares[0] is not weight.data:
            self._squares = weight.data, row_squares(weight.data, transposed=self.transposed)
        return self._squares[1]

    def forget(self) -> None:
        """Called when the weight was changed where it is."""
        self._squares = None


class Adapters(Module):
    """The adapters of one module, by name; those that are `active` take part, in that order."""

    def __init__(self) -> None:
        self.members: dict[str, LowRank] = {}
        self.active: tuple[str, ...] = ()

    def children(self) -> Iterable[tuple[str, Any]]:
        return self.members.items()

    def working(self) -> list[LowRank]:
        """The active ones. Raises ConfigError for several with DoRA among them."""
        found = [self.members[name] for name in self.active]
        if len(found) > 1 and any(layer.magnitude is not None for layer in found):
            raise ConfigError(
                f"adapters {', '.join(self.active)} together, with DoRA among them",
                hint="an adapter of DoRA scales the whole weight: let it work alone",
            )
        return found

    def project(self, projection: Projection, x: Tensor, residual: Tensor | None) -> Tensor:
        """What `projection` makes of x (..., in) with the active adapters, plus the residual."""
        working = self.working()
        if not working:
            return projection.affine(x, residual)
        y = working[0].project(projection, x, residual)
        for layer in working[1:]:
            y = y + layer.beside(x)
        return y

    def weight(self, weight: Tensor) -> Tensor:
        """`weight`, that of the module, with the active adapters."""
        found = weight
        for layer in self.working():
            found = layer.weight(found)
        return found

    def weight_alone(self, weight: Tensor, *, name: str) -> Tensor:
        """The same, for a module that then computes with it and nothing else; `name` is its weight.

        Raises ConfigError for what such a weight cannot have: dropout, and a bias of B.
        """
        for layer in self.working():
            if layer.dropout.p:
                raise ConfigError(
                    f"{name}: its adapter has a dropout of {layer.dropout.p:g}, and computes as a "
                    "part of the weight",
                    hint="A has no input of its own there: set the adapter's dropout to 0",
                )
            if layer.bias is not None:
                raise ConfigError(
                    f"{name}: its adapter has a bias of B, and computes as a part of the weight",
                    hint="leave lora_bias out, or train the bias of the module: bias='lora_only'",
                )
        return self.weight(weight)

    def look_up(self, table: Embedding, ids: np.ndarray) -> Tensor:
        """The rows of `table` at `ids` with the active adapters."""
        y = ops.embedding(table.weight, ids, padding_idx=table.padding)
        for layer in self.working():
            y = layer.look_up(table, ids, y)
        return y


def _plus(x: Tensor, y: Tensor | None) -> Tensor:
    return x if y is None else x + y


def _without_bias(projection: Projection, x: Tensor) -> Tensor:
    y = projection.affine(x, None)
    return y if projection.bias is None else y - projection.bias
