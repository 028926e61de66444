"""What the tests of several packages use: gradient checks and models of toy size."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from entrenar_core import models
from entrenar_core.autograd import Tensor
from entrenar_core.rng import stream

DIRECTIONS = 3
"""Random directions for each choice of inputs in `check_grads`."""

STEP = 6e-6
"""Half the distance of the two points of a central difference: the cube root of float64's
precision, where the errors of truncation and of rounding are equal."""


def check_grads(
    function: Callable[..., Tensor], *inputs: Any, seed: int = 0, rtol: float = 1e-6
) -> float:
    """Compare the vjps of `function` with central differences; returns the worst relative error.

    `function` takes `inputs` and returns a Tensor. Those that are float arrays are given as float64
    tensors and are differentiated; all others (integers, None) are passed on as they are. With the
    Jacobian J, random u and v, and h = STEP, the two sides of

        ⟨Jᵀv, u⟩ = ⟨v, function(x + hu) − function(x − hu)⟩ / 2h

    are compared for several u and v, with each input alone requiring a gradient and then with all
    of them. The error is relative to the larger side, or to 1e-3·‖Jᵀv‖·‖u‖ where both are small
    because u happens to be nearly orthogonal to the gradient.

    Raises AssertionError, naming the input, when an error exceeds `rtol`, when a gradient has
    another shape than its input, or when `function` changes an input.

    >>> check_grads(lambda x: x * x, np.array([1.0, 2.0])) < 1e-6
    True
    """
    values = [_as_float64(value) for value in inputs]
    floats = [i for i, value in enumerate(values) if _is_float(value)]
    assert floats, "check_grads: no input is an array of floats"
    choices = [(i,) for i in floats] + ([tuple(floats)] if len(floats) > 1 else [])
    worst = 0.0
    for chosen in choices:
        for direction in range(DIRECTIONS):
            rng = stream(seed, "check_grads", *chosen, direction)
            error = _directional_error(function, values, chosen, rng)
            worst = max(worst, error)
            assert error <= rtol, (
                f"the gradient for inputs {chosen} is off by {error:.1e}, allowed are {rtol:.1e}"
            )
    return worst


def _directional_error(
    function: Callable[..., Tensor],
    values: Sequence[Any],
    chosen: tuple[int, ...],
    rng: np.random.Generator,
) -> float:
    tensors = _wrapped(values, chosen)
    y = function(*tensors)
    assert y.requires_grad, f"no gradient reaches inputs {chosen}"
    v = np.asarray(rng.standard_normal(y.shape))
    y.backward(v)
    u = {i: np.asarray(rng.standard_normal(values[i].shape)) for i in chosen}
    pulled, size = 0.0, 0.0
    for i in chosen:
        gradient = tensors[i].grad
        assert gradient is not None, f"no gradient reached input {i}"
        assert gradient.shape == values[i].shape, (
            f"input {i} is {values[i].shape}, its gradient {gradient.shape}"
        )
        pulled += float((gradient * u[i]).sum())
        size += float((gradient**2).sum()) * float((u[i] ** 2).sum())
    for i, value in enumerate(values):
        assert not _is_float(value) or np.array_equal(tensors[i].data, value), (
            f"the function changes its input {i}"
        )

    def moved(step: float) -> np.ndarray:
        at = [np.asarray(x + step * u[i]) if i in u else x for i, x in enumerate(values)]
        return function(*_wrapped(at, ())).data

    pushed = float((v * (moved(STEP) - moved(-STEP))).sum()) / (2 * STEP)
    scale = max(abs(pulled), abs(pushed), 1e-3 * size**0.5)
    return abs(pulled - pushed) / scale if scale else 0.0


def _is_float(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.kind == "f"


def _as_float64(value: Any) -> Any:
    return value.astype(np.float64) if _is_float(value) else value


def _wrapped(values: Sequence[Any], chosen: tuple[int, ...]) -> list[Any]:
    """Fresh copies of the float arrays as tensors, which require gradients if they are chosen."""
    return [
        Tensor(value.copy(), requires_grad=i in chosen) if _is_float(value) else value
        for i, value in enumerate(values)
    ]


def difference(found: Any, wanted: Any) -> float:
    """max|found − wanted| / max|wanted|, in float64: how agreement is measured in this library.

    0 for equal arrays, also where both are zero everywhere; infinite for different shapes and
    where one has a NaN or an infinity that the other has not.
    """
    a, b = np.asarray(found, np.float64), np.asarray(wanted, np.float64)
    if a.shape != b.shape:
        return np.inf
    if np.array_equal(a, b, equal_nan=True):
        return 0.0
    finite = np.isfinite(b)
    if not np.array_equal(np.where(finite, 0, a), np.where(finite, 0, b), equal_nan=True):
        return np.inf
    error, size = np.abs(a[finite] - b[finite]).max(), np.abs(b[finite]).max()
    return float(error / size) if size and np.isfinite(error) else np.inf


_DECODER = {
    "vocab_size": 61,
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "initializer_range": 0.2,
}

_TINY: dict[str, dict[str, Any]] = {
    "llama": _DECODER,
    "mistral": {**_DECODER, "sliding_window": 5},
    "qwen2": {
        **_DECODER, "use_sliding_window": True, "sliding_window": 5, "max_window_layers": 1,
    },
    "qwen3": {**_DECODER, "head_dim": 10},
    "gpt2": {
        "vocab_size": 61, "n_embd": 24, "n_inner": 40, "n_layer": 2, "n_head": 4,
        "n_positions": 64, "initializer_range": 0.2, "bos_token_id": 1, "eos_token_id": 2,
    },
}  # fmt: skip
"""Sizes by `model_type`. No two are equal, so that a mixed-up axis shows."""


def tiny_config(model_type: str = "llama", **overrides: Any) -> dict[str, Any]:
    """The keys of a `config.json` for a decoder of some thousand parameters, with grouped queries
    and windows where the architecture has them. `overrides` are keys of that file."""
    return {"model_type": model_type, **_TINY[model_type], **overrides}


def tiny_model(
    model_type: str,
    *,
    seed: int = 0,
    head: str | None = None,
    dtype: str = "float32",
    **overrides: Any,
) -> Any:
    """A model of `tiny_config(model_type, **overrides)` in which every parameter matters: see
    `spread`."""
    config = tiny_config(model_type, **overrides)
    return spread(models.from_config(config, seed=seed, head=head, dtype=dtype), seed)


def spread(model: Any, seed: int = 0) -> Any:
    """`model` with norm weights and biases drawn too, in place: where they are 1 and 0, as in a
    new model, code that leaves them out goes unnoticed. Weights have both signs: with a tied head
    and positive ones, a model does nothing but repeat its last token."""
    for name, parameter in model.named_parameters().items():
        if parameter.data.ndim == 1:
            rng = stream(seed, f"tiny {name}")
            draws = rng.uniform(0.5, 1.5, parameter.shape)
            signs = rng.choice([-1.0, 1.0], parameter.shape)
            parameter.data[...] = draws - 1 if name.endswith("bias") else draws * signs
    return model


def tiny_llama(*, seed: int = 0, dtype: str = "float32", **overrides: Any) -> Any:
    """`tiny_model("llama")`."""
    return tiny_model("llama", seed=seed, dtype=dtype, **overrides)
