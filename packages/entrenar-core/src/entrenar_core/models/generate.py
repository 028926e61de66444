"""Continuing a sequence of tokens, one at a time, with a key-value cache."""

from typing import Any

import numpy as np

from entrenar_common.errors import ConfigError
from entrenar_core.autograd import no_grad, ops
from entrenar_core.models.cache import KVCache
from entrenar_core.rng import stream


def generate(
    model: Any,
    ids: np.ndarray,
    *,
    max_new_tokens: int,
    temperature: float = 0.0,
    top_k: int | None = None,
    top_p: float = 1.0,
    seed: int = 0,
    eos_id: int | None = None,
) -> np.ndarray:
    """`ids` (time,) with up to `max_new_tokens` ids appended, stopping after `eos_id`.

    Temperature 0 takes the most likely token; otherwise one is drawn from
    softmax(logits / temperature), cut to the `top_k` most likely and to the smallest set whose
    probability reaches `top_p`. Equal seeds draw equal texts.
    """
    if len(ids) == 0 or temperature < 0 or not 0 < top_p <= 1 or (top_k is not None and top_k < 1):
        raise ConfigError(
            f"generate: {len(ids)} prompt tokens, temperature {temperature}, top_k {top_k}, "
            f"top_p {top_p}",
            hint="give at least one token, temperature ≥ 0, top_k ≥ 1, 0 < top_p ≤ 1",
        )
    sequence = [int(i) for i in ids]
    cache = KVCache(model.config, 1, len(ids) + max_new_tokens, model.lm_head.weight.dtype)
    new = np.asarray(ids, np.int64)[None, :]  # (1, T)
    with no_grad():
        for position in range(max_new_tokens):
            last = model.hidden(new, cache).data[:, -1]  # (1, D)
            logits = ops.linear(last, model.lm_head.weight).data[0]  # (V,)
            if temperature == 0:
                token = int(logits.argmax())
            else:
                draw = stream(seed, "sample", position).random()
                token = _pick(logits, temperature, top_k, top_p, draw)
            sequence.append(token)
            if token == eos_id:
                break
            new = np.array([[token]], np.int64)
    return np.array(sequence, np.int64)


def _pick(
    logits: np.ndarray, temperature: float, top_k: int | None, top_p: float, draw: float
) -> int:
    """The token at which the cumulative probability passes `draw`, among the allowed ones."""
    scaled = logits.astype(np.float64) / temperature
    order = np.argsort(-scaled, kind="stable")[:top_k]
    p = np.exp(scaled[order] - scaled[order[0]])
    p /= p.sum()
    # a token is kept when those before it have not yet reached top_p
    kept = np.cumsum(p) - p < top_p
    cumulative = np.cumsum(p[kept])
    return int(order[np.searchsorted(cumulative, draw * cumulative[-1], side="right")])
