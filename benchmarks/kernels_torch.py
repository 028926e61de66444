"""What PyTorch has for each kernel: made from the arguments of the kernel's own call, with the
gradients by its autograd."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.nn import functional

Call = tuple[tuple[Any, ...], dict[str, Any]]
Run = Callable[[], Any]
Maker = Callable[[Call], Run]


def _leaf(array: np.ndarray) -> Any:
    return torch.from_numpy(array.copy()).requires_grad_()


def _backward(value: Any, inputs: list[Any], g: np.ndarray) -> Run:
    gradient = torch.from_numpy(g)
    return lambda: torch.autograd.grad(value, inputs, gradient, retain_graph=True)


def _plain(function: Callable[..., Any]) -> Maker:
    def make(call: Call) -> Run:
        tensors = [torch.from_numpy(a) for a in call[0] if isinstance(a, np.ndarray)]
        return lambda: function(*tensors)

    return make


def _heads_first(array: np.ndarray, make: Callable[[np.ndarray], Any]) -> Any:
    return make(array).transpose(1, 2)  # (B, H, T, D)


def _attention(call: Call) -> Run:
    q, k, v = (_heads_first(a, torch.from_numpy) for a in call[0])
    return lambda: functional.scaled_dot_product_attention(q, k, v, is_causal=True)


def _attention_grad(call: Call) -> Run:
    g, *qkv = call[0][:4]
    leaves = [_leaf(a) for a in qkv]
    q, k, v = (x.transpose(1, 2) for x in leaves)
    o = functional.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2)
    return _backward(o, leaves, g)


def _swiglu_grad(call: Call) -> Run:
    g, gate, up = call[0]
    leaves = [_leaf(gate), _leaf(up)]
    return _backward(functional.silu(leaves[0]) * leaves[1], leaves, g)


def _norm_grad(call: Call) -> Run:
    g, x, weight, _ = call[0]
    leaves = [_leaf(x), _leaf(weight)]
    return _backward(functional.rms_norm(leaves[0], weight.shape, leaves[1], 1e-6), leaves, g)


def _cross_entropy_grad(call: Call) -> Run:
    logits, targets = _leaf(call[0][0]), torch.from_numpy(call[0][1])

    def run() -> Any:
        return torch.autograd.grad(functional.cross_entropy(logits, targets), logits)

    return run


def _distillation_grad(call: Call) -> Run:
    logits, teacher = _leaf(call[0][0]), torch.from_numpy(call[0][1].copy())
    targets = torch.from_numpy(call[0][2])

    def run() -> Any:
        soft = functional.kl_div(
            functional.log_softmax(logits / 2, -1),
            functional.log_softmax(teacher / 2, -1),
            reduction="batchmean",
            log_target=True,
        )
        loss = 2 * soft + 0.5 * functional.cross_entropy(logits, targets)
        return torch.autograd.grad(loss, logits)

    return run


def _embedding_grad(call: Call) -> Run:
    g, ids = (torch.from_numpy(a) for a in call[0])
    return lambda: torch.ops.aten.embedding_dense_backward(
        g, ids, call[1]["out"].shape[0], -1, False
    )


def _matmul(call: Call) -> Run:
    a, b = (torch.from_numpy(x) for x in call[0])
    out = torch.from_numpy(call[1]["out"])
    return lambda: torch.mm(a, b.t(), out=out)


def _adamw(call: Call) -> Run:
    parameter = _leaf(call[0][0])
    parameter.grad = torch.from_numpy(call[0][1])
    return torch.optim.AdamW([parameter], lr=1e-3, fused=True).step


CALLS: dict[str, Maker] = {
    "activation.swiglu": _plain(lambda gate, up: functional.silu(gate) * up),
    "activation.swiglu_grad": _swiglu_grad,
    "attention.attention": _attention,
    "attention.attention_grad": _attention_grad,
    "embedding.embedding_grad": _embedding_grad,
    "loss.cross_entropy": _plain(lambda x, t: functional.cross_entropy(x, t, reduction="none")),
    "loss.cross_entropy_grad": _cross_entropy_grad,
    "loss.distillation_grad": _distillation_grad,
    "matmul.matmul": _matmul,
    "norm.rms_norm": _plain(lambda x, w: functional.rms_norm(x, w.shape, w, 1e-6)),
    "norm.rms_norm_grad": _norm_grad,
    "update.accumulate": _plain(lambda target, source: target.add_(source)),
    "update.adamw": _adamw,
    "update.sum_of_squares": _plain(lambda x: x.dot(x).item()),
}
"""From a kernel's arguments to the call of PyTorch that does the same, by the kernel's name."""
