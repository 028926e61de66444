"""AdamW on flat buffers: one kernel call for all parameters that share a weight decay."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from entrenar_common.errors import CheckpointError
from entrenar_core import kernels
from entrenar_core.autograd import Parameter

ALIGNMENT = 16
"""Parameters start at multiples of this many elements: a whole vector register."""


def decays_matrices(_name: str, parameter: Parameter) -> bool:
    """The usual rule: weight decay for matrices, none for biases and norm weights."""
    return parameter.data.ndim >= 2


class AdamW:
    """Loshchilov and Hutter 2019, arXiv:1711.05101, with clipping of the global gradient norm.

    Takes over the memory of the parameters that require gradients: their `data` and gradients
    become views of flat buffers. State is named after the parameters, never by position.
    """

    def __init__(
        self,
        parameters: Mapping[str, Parameter],
        *,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        decays: Callable[[str, Parameter], bool] = decays_matrices,
    ):
        self.beta1, self.beta2, self.eps = beta1, beta2, eps
        self.steps = 0
        trained = {name: p for name, p in parameters.items() if p.requires_grad}
        decayed = {name: p for name, p in trained.items() if decays(name, p)}
        kept = {name: p for name, p in trained.items() if name not in decayed}
        self._groups = [
            _Group(members, decay)
            for members, decay in ((decayed, weight_decay), (kept, 0.0))
            if members
        ]

    def zero_grad(self) -> None:
        """Forget the gradients. Their memory is kept for the next ones."""
        for group in self._groups:
            group.zero_grad()

    def gradient_norm(self) -> float:
        """√Σg² over all gradients; NaN or infinite if one of them is."""
        return math.sqrt(sum(kernels.sum_of_squares(group.grads()) for group in self._groups))

    def step(self, lr: float, *, max_norm: float = math.inf) -> float:
        """Update the parameters with gradients scaled down to a global norm of `max_norm`.

        Returns the norm before scaling. If it is not finite nothing changes: the step is skipped.
        """
        norm = self.gradient_norm()
        if not math.isfinite(norm):
            return norm
        self.steps += 1
        # the 1e-6 is PyTorch's clip_grad_norm_
        scale = min(1.0, max_norm / (norm + 1e-6))
        for group in self._groups:
            kernels.adamw(
                group.data, group.grads(), group.m, group.v,
                lr=lr, beta1=self.beta1, beta2=self.beta2, eps=self.eps,
                weight_decay=group.weight_decay, step=self.steps, scale=scale,
            )  # fmt: skip
        return norm

    def state(self) -> dict[str, np.ndarray]:
        """Views of the moments: `m.<parameter>` and `v.<parameter>`."""
        views: dict[str, np.ndarray] = {}
        for group in self._groups:
            for name, part in group.parts.items():
                shape = group.members[name].shape
                views[f"m.{name}"] = group.m[part].reshape(shape)
                views[f"v.{name}"] = group.v[part].reshape(shape)
        return views

    def restore(self, tensors: Mapping[str, np.ndarray], steps: int) -> None:
        """Take over moments saved by `state` and the number of steps they come from.

        Raises CheckpointError when names or shapes differ from this optimizer's.
        """
        views = self.state()
        differing = sorted(
            set(views.keys() ^ tensors.keys())
            | {n for n in views.keys() & tensors.keys() if views[n].shape != tensors[n].shape}
        )
        if differing:
            raise CheckpointError(
                f"the optimizer state is of another model: {differing[0]} and "
                f"{len(differing) - 1} more tensors differ",
                hint="resume with the config that the checkpoint was made with",
            )
        for name, view in views.items():
            view[...] = tensors[name]
        self.steps = steps


class _Group:
    """Parameters that share a weight decay, in four flat arrays."""

    def __init__(self, members: Mapping[str, Parameter], weight_decay: float):
        self.members, self.weight_decay = dict(members), weight_decay
        self.parts: dict[str, slice] = {}
        size = 0
        for name, parameter in members.items():
            self.parts[name] = slice(size, size + parameter.data.size)
            size += -(-parameter.data.size // ALIGNMENT) * ALIGNMENT
        dtype = next(iter(members.values())).dtype
        self.data, self._grads, self.m, self.v = (np.zeros(size, dtype) for _ in range(4))
        for name, parameter in members.items():
            part = self.parts[name]
            self.data[part] = parameter.data.reshape(-1)
            parameter.data = self.data[part].reshape(parameter.shape)
            parameter.grad_buffer = self._grads[part].reshape(parameter.shape)

    def zero_grad(self) -> None:
        for parameter in self.members.values():
            parameter.grad = None

    def grads(self) -> Any:
        """The flat gradients. A parameter that no gradient has reached counts as zero; one whose
        `grad` was set by hand is copied in."""
        for parameter in self.members.values():
            if parameter.grad is not parameter.grad_buffer:
                parameter.grad_buffer[...] = 0 if parameter.grad is None else parameter.grad
                parameter.grad = parameter.grad_buffer
        return self._grads
