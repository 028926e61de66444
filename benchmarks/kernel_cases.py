"""What the kernel benchmark calls: for each case the same work in entrenar and in PyTorch."""

import math
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from entrenar_core import kernels, optim
from entrenar_core.autograd import Parameter, Tensor, ops
from entrenar_core.prepare import prepare

Calls = Iterator[tuple[str, Callable[[], Any]]]
"""(direction, call) pairs; a call is run before the next pair is asked for."""

Medians = Callable[..., list[float]]
"""Times calls in turns, so many `rounds`: the median seconds of each."""

MB = 1_000_000
_RNG = np.random.default_rng(0)


def normal(*shape: int) -> np.ndarray:
    return _RNG.standard_normal(shape, np.float32)


@dataclass(frozen=True)
class Case:
    """One kernel at one size. `make()` gives both sides' generators of calls, by name. `moved` has
    the bytes that a direction cannot avoid to move where that bounds it, else 0; `operations` are
    those of a product, which is shown as a rate."""

    kernel: str
    size: str
    bytes: int
    moved: dict[str, int]
    make: Callable[[], dict[str, Callable[[], Calls]]]
    operations: int = 0

    def sides(self) -> dict[str, Callable[[], Calls]]:
        return self.make()


def _differentiated(
    ours: Callable[..., Tensor], theirs: Callable[..., Any], arrays: list[np.ndarray]
) -> dict[str, Callable[[], Calls]]:
    """Both sides of a function of `arrays` and of its gradient, for a given output gradient."""
    leaves = [Tensor(array, requires_grad=True) for array in arrays]
    torch_leaves = [torch.from_numpy(array).requires_grad_() for array in arrays]
    g = normal(*ours(*leaves).shape)
    torch_g = torch.from_numpy(g)

    def entrenar() -> Calls:
        results = []
        for leaf in leaves:
            leaf.grad = None
        yield "forward", lambda: results.append(ours(*leaves))
        yield "backward", lambda: results.pop().backward(g)

    def pytorch() -> Calls:
        results = []
        for leaf in torch_leaves:
            leaf.grad = None
        yield "forward", lambda: results.append(theirs(*torch_leaves))
        yield "backward", lambda: results.pop().backward(torch_g)

    return {"entrenar": entrenar, "torch": pytorch}


def _mapped(
    kernel: str,
    ours: Callable[..., Tensor],
    theirs: Callable[..., Any],
    *shape: int,
    inputs: int = 1,
    parameters: int = 0,
    moved: tuple[int, int],
) -> Case:
    """A function of `inputs` arrays of one shape and of `parameters` vectors of its last size.
    `moved`: how many arrays of that shape forward and backward have to read and write."""

    def make() -> dict[str, Callable[[], Calls]]:
        arrays = [normal(*shape) for _ in range(inputs)]
        arrays += [normal(shape[-1]) for _ in range(parameters)]
        return _differentiated(ours, theirs, arrays)

    size = 4 * math.prod(shape)
    beyond = size > 32 * MB
    bound = {"forward": moved[0] * size * beyond, "backward": moved[1] * size * beyond}
    return Case(kernel, " × ".join(map(str, shape)), size, bound, make)


ROWS = ((128, 512), (2048, 768), (8192, 1024), (32768, 4096))
"""256 kB, 6 MB, 34 MB, 537 MB."""
WIDE_ROWS = ((256, 256), (2048, 1024), (512, 32000), (4096, 32000))
"""262 kB, 8 MB, 66 MB, 524 MB."""


def _softmax(*shape: int) -> Case:
    return _mapped(
        "softmax", lambda x: ops.softmax(x, axis=-1), lambda x: x.softmax(-1), *shape, moved=(2, 3)
    )


def _log_softmax(*shape: int) -> Case:
    return _mapped(
        "log_softmax",
        lambda x: ops.log_softmax(x, axis=-1),
        lambda x: x.log_softmax(-1),
        *shape,
        moved=(2, 3),
    )


def _layer_norm(*shape: int) -> Case:
    return _mapped(
        "layer_norm",
        lambda x, w, b: ops.layer_norm(x, w, b, eps=1e-5),
        lambda x, w, b: functional.layer_norm(x, w.shape, w, b, 1e-5),
        *shape,
        parameters=2,
        moved=(2, 3),
    )


def _rms_norm(*shape: int) -> Case:
    return _mapped(
        "rms_norm",
        lambda x, w: ops.rms_norm(x, w, eps=1e-5),
        lambda x, w: functional.rms_norm(x, w.shape, w, 1e-5),
        *shape,
        parameters=1,
        moved=(2, 3),
    )


def _gelu(*shape: int) -> Case:
    return _mapped("gelu", lambda x: ops.gelu(x), functional.gelu, *shape, moved=(2, 3))


def _gelu_tanh(*shape: int) -> Case:
    return _mapped(
        "gelu, tanh",
        lambda x: ops.gelu(x, approximate=True),
        lambda x: functional.gelu(x, approximate="tanh"),
        *shape,
        moved=(2, 3),
    )


def _silu(*shape: int) -> Case:
    return _mapped("silu", lambda x: ops.silu(x), functional.silu, *shape, moved=(2, 3))


def _swiglu(*shape: int) -> Case:
    return _mapped(
        "swiglu",
        lambda gate, up: ops.swiglu(gate, up),
        lambda gate, up: functional.silu(gate) * up,
        *shape,
        inputs=2,
        moved=(3, 5),
    )


def _rope(batch: int, length: int, heads: int, width: int) -> Case:
    angles = np.arange(length)[:, None] / 10000 ** (np.arange(width // 2) / (width // 2))
    cos, sin = np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)
    full = [torch.from_numpy(np.concatenate([a, a], axis=1)) for a in (cos, sin)]

    def theirs(x: Any) -> Any:
        """transformers' apply_rotary_pos_emb, on (B, H, T, D)."""
        half = torch.cat((-x[..., width // 2 :], x[..., : width // 2]), dim=-1)
        return x * full[0] + half * full[1]

    def make() -> dict[str, Callable[[], Calls]]:
        ours = _differentiated(
            lambda x: ops.rope(x, cos, sin),
            lambda x: x * 1.0,
            [normal(batch, length, heads, width)],
        )["entrenar"]
        other = _differentiated(lambda x: x * 1.0, theirs, [normal(batch, heads, length, width)])[
            "torch"
        ]
        return {"entrenar": ours, "torch": other}

    size = 4 * batch * length * heads * width
    bound = dict.fromkeys(("forward", "backward"), 2 * size * (size > 32 * MB))
    return Case("rope", f"{batch} × {length} × {heads} × {width}", size, bound, make)


def _attention(
    batch: int, length: int, heads: int, width: int, *, causal: bool, groups: int | None = None
) -> Case:
    groups = groups or heads
    scale = width**-0.5

    def make() -> dict[str, Callable[[], Calls]]:
        def arrays(*order: int) -> list[np.ndarray]:
            shapes = ((heads, length), (groups, length), (groups, length))
            return [normal(*((batch, *(n[i] for i in order), width))) for n in shapes]

        ours = _both_orders(
            lambda q, k, v: ops.attention(q, k, v, scale=scale, causal=causal), arrays(1, 0)
        )
        theirs = _both_orders(
            lambda q, k, v: functional.scaled_dot_product_attention(
                q, k, v, is_causal=causal, scale=scale, enable_gqa=groups != heads
            ),
            arrays(0, 1),
            of_torch=True,
        )
        return {"entrenar": ours, "torch": theirs}

    kind = "causal" if causal else "full"
    label = f"{batch} × {length} × {heads}{f'/{groups}' * (groups != heads)} × {width} {kind}"
    size = 4 * batch * length * heads * width
    return Case("attention", label, size, {"forward": 0, "backward": 0}, make)


def _both_orders(
    function: Callable[..., Any], arrays: list[np.ndarray], of_torch: bool = False
) -> Callable[[], Calls]:
    """One side of a function whose inputs lie differently in the two libraries."""

    def plain(*xs: Any) -> Any:
        return xs[0] * 1.0

    if of_torch:
        return _differentiated(plain, function, arrays)["torch"]
    return _differentiated(function, plain, arrays)["entrenar"]


def _embedding_grad(rows: int, width: int, count: int) -> Case:
    def make() -> dict[str, Callable[[], Calls]]:
        table, ids = normal(rows, width), _RNG.integers(0, rows, count)
        torch_ids = torch.from_numpy(ids)
        return _differentiated(
            lambda w: ops.embedding(w, ids),
            lambda w: functional.embedding(torch_ids, w),
            [table],
        )

    size = 4 * rows * width
    moved = (size + 8 * count * width) * (size > 32 * MB)
    return Case(
        "embedding gradient", f"{count} of {rows} × {width}", size, {"backward": moved}, make
    )


def _linear_cross_entropy(tokens: int, width: int, vocabulary: int) -> Case:
    def make() -> dict[str, Callable[[], Calls]]:
        hidden, weight = normal(tokens, width), normal(vocabulary, width) * np.float32(0.05)
        targets = _RNG.integers(0, vocabulary, tokens)
        h, w = (Tensor(a, requires_grad=True) for a in (hidden, weight))
        th, tw = (torch.from_numpy(a).requires_grad_() for a in (hidden, weight))
        torch_targets = torch.from_numpy(targets)

        def step() -> None:
            h.grad = w.grad = None
            ops.linear_cross_entropy(h, w, targets, normalizer=tokens).backward()

        def torch_step() -> None:
            th.grad = tw.grad = None
            functional.cross_entropy(functional.linear(th, tw), torch_targets).backward()

        return {
            "entrenar": lambda: iter([("both", step)]),
            "torch": lambda: iter([("both", torch_step)]),
        }

    size = 4 * tokens * vocabulary
    return Case(
        "linear + cross-entropy", f"{tokens} × {width} × {vocabulary}", size, {"both": 0}, make
    )


def _parameters(size: int) -> tuple[dict[str, Parameter], list[Any]]:
    """`size` numbers in eight matrices on both sides, with gradients."""
    rows = max(1, size // 8 // 64)
    ours, theirs = {}, []
    for i in range(8):
        value, gradient = normal(rows, 64), normal(rows, 64)
        ours[f"p{i}"] = Parameter(value.copy())
        ours[f"p{i}"].grad = gradient.copy()
        theirs.append(torch.nn.Parameter(torch.from_numpy(value.copy())))
        theirs[-1].grad = torch.from_numpy(gradient)
    return ours, theirs


def _optimizer(
    name: str, size: int, ours: Callable[..., Any], theirs: Callable[..., Any], moved: int
) -> Case:
    def make() -> dict[str, Callable[[], Calls]]:
        mine, other = _parameters(size)
        optimizer, reference = ours(mine), theirs(other)
        return {
            "entrenar": lambda: iter([("step", lambda: optimizer.update(1e-4))]),
            "torch": lambda: iter([("step", reference.step)]),
        }

    bytes_ = 4 * size
    return Case(
        name, f"{size:,} numbers", bytes_, {"step": moved * bytes_ * (bytes_ > 32 * MB)}, make
    )


def _adamw(size: int) -> Case:
    return _optimizer(
        "AdamW",
        size,
        lambda p: optim.AdamW(p, weight_decay=0.01),
        lambda p: torch.optim.AdamW(p, lr=1e-4, weight_decay=0.01, fused=True),
        7,
    )


def _sgd(size: int) -> Case:
    return _optimizer(
        "SGD",
        size,
        lambda p: optim.SGD(p, momentum=0.9),
        lambda p: torch.optim.SGD(p, lr=1e-4, momentum=0.9, fused=True),
        5,
    )


def _clipping(size: int) -> Case:
    def make() -> dict[str, Callable[[], Calls]]:
        mine, other = _parameters(size)
        norm = 0.5 * math.sqrt(size)  # the norms halve at the first call, and are scaled at each

        def clip() -> None:
            optim.clip_grad_norm(mine.values(), norm)

        def torch_clip() -> None:
            torch.nn.utils.clip_grad_norm_(other, norm)

        return {
            "entrenar": lambda: iter([("step", clip)]),
            "torch": lambda: iter([("step", torch_clip)]),
        }

    bytes_ = 4 * size
    moved = {"step": 3 * bytes_ * (bytes_ > 32 * MB)}
    return Case("gradient clipping", f"{size:,} numbers", bytes_, moved, make)


NUMBERS = (65_536, 1_048_576, 16_777_216, 125_829_120)
"""262 kB, 4 MB, 67 MB, 503 MB of float32."""

CASES = [
    *(_softmax(*shape) for shape in WIDE_ROWS),
    *(_log_softmax(*shape) for shape in WIDE_ROWS),
    *(_layer_norm(*shape) for shape in ROWS),
    *(_rms_norm(*shape) for shape in ROWS),
    *(_gelu(*shape) for shape in ROWS),
    *(_gelu_tanh(*shape) for shape in ROWS),
    *(_silu(*shape) for shape in ROWS),
    *(_swiglu(*shape) for shape in ROWS),
    *(
        _rope(*shape)
        for shape in ((1, 128, 8, 64), (8, 256, 12, 64), (8, 512, 32, 128), (16, 2048, 32, 128))
    ),
    *(
        _attention(*shape, causal=causal)
        for shape in ((8, 128, 12, 64), (2, 512, 12, 64), (1, 2048, 12, 64), (1, 2048, 8, 128))
        for causal in (True, False)
    ),
    _attention(2, 512, 16, 64, causal=True, groups=4),
    _embedding_grad(1000, 64, 512),
    _embedding_grad(32000, 288, 2048),
    _embedding_grad(32000, 4096, 2048),
    _embedding_grad(128256, 1024, 8192),
    _linear_cross_entropy(256, 128, 256),
    _linear_cross_entropy(2048, 288, 32000),
    _linear_cross_entropy(1024, 768, 128256),
    *(_adamw(size) for size in NUMBERS),
    *(_sgd(size) for size in NUMBERS),
    *(_clipping(size) for size in NUMBERS),
]


@dataclass(frozen=True)
class ExtraCase:
    """A figure that is no ratio to PyTorch; `limit` is what it may be at most."""

    name: str
    unit: str
    limit: float
    measure: Callable[[Medians], float]


def _matmul_backward(medians: Medians) -> float:
    x, weight, g = normal(1024, 1024), normal(1024, 1024), normal(1024, 1024)
    out, dx, dweight = (np.empty((1024, 1024), np.float32) for _ in range(3))

    def forward() -> None:
        kernels.matmul(x, weight, trans_b=True, out=out)

    def backward() -> None:
        kernels.matmul(g, weight, out=dx)
        kernels.matmul(g, x, trans_a=True, out=dweight)

    seconds, backward_seconds = medians(forward, backward, rounds=51)
    return backward_seconds / seconds


def _adam_on_a_million(medians: Medians) -> float:
    mine, _ = _parameters(1_000_000)
    optimizer = optim.Adam(mine)
    return 1e3 * medians(lambda: optimizer.step(1e-4), rounds=51)[0]


def _compilation(_medians: Medians) -> float:
    with tempfile.TemporaryDirectory() as folder:
        before = os.environ.get("NUMBA_CACHE_DIR")
        os.environ["NUMBA_CACHE_DIR"] = folder
        try:
            return prepare()
        finally:
            del os.environ["NUMBA_CACHE_DIR"]
            if before is not None:
                os.environ["NUMBA_CACHE_DIR"] = before


EXTRAS = [
    ExtraCase("compiling all kernels, nothing cached", "s", 25.0, _compilation),
    ExtraCase("matmul backward / forward, 1024³", "×", 2.1, _matmul_backward),
    ExtraCase("Adam, 1,000,000 numbers", "ms", 1.0, _adam_on_a_million),
]
