"""What the blocks of one pass through a model share, and how they are run.

A block is called `block(x, forward)`. It attends through `attend`, which knows about the cache, the
mask, dropout and the queries, keys and values that were asked for, so that no architecture repeats
that.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from entrenar_common.errors import ConfigError, ShapeError
from entrenar_core.autograd import Tensor, checkpoint, ops
from entrenar_core.models.cache import KVCache
from entrenar_core.models.features import Heads, Selected
from entrenar_core.nn import Dropout


@dataclass
class Forward:
    """What all blocks of one pass share.

    mask: (B, S), the keys that count, None for all; first: (B, T), the first key that each query
    may see, None for that of its row; tables: cos and sin of the positions, where they are rotary;
    cache: keys and values of positions already seen; selected: what is to be kept of the pass, and
    where.
    """

    mask: np.ndarray | None = None
    first: np.ndarray | None = None
    tables: Any = None
    cache: KVCache | None = None
    selected: Selected | None = None


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    layer: int,
    forward: Forward,
    *,
    scale: float,
    causal: bool,
    window: int | None = None,
    dropout: Dropout | None = None,
) -> Tensor:
    """`ops.attention` of block number `layer` in this pass: q (B, T, H, D); k, v (B, T, G, D).

    With a cache, k and v are added to it and the queries see all that it holds.
    """
    if forward.cache is not None:
        k, v = forward.cache.layers[layer].append(k, v)  # (B, S, G, D)
    seen: dict[str, Any] = {
        "scale": scale, "causal": causal, "window": window, "mask": forward.mask,
        "first": forward.first,
    }  # fmt: skip
    if forward.selected is not None:
        heads = Heads(q, k, v, scale, causal, window, forward.first)
        forward.selected.keep_heads(layer, heads)
    key = None if dropout is None else dropout.next_key()
    if dropout is None or key is None:
        return ops.attention(q, k, v, **seen)
    return ops.attention(q, k, v, **seen, dropout=dropout.p, key=key)


def add_dropped(
    project: Callable[[Tensor | None], Tensor], residual: Tensor, dropout: Dropout
) -> Tensor:
    """residual + dropout(project(None)).

    `project(residual)` adds the residual by itself: where nothing is dropped, that saves a pass.
    """
    key = dropout.next_key()
    if key is None:
        return project(residual)
    return ops.dropout(project(None), p=dropout.p, key=key) + residual


def run_blocks(
    blocks: Iterable[Callable[[Tensor, Forward], Tensor]],
    x: Tensor,
    forward: Forward,
    *,
    recompute: bool = False,
    last: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """x (B, T, hidden) through every block and then through `last` (a final norm), if there is one.

    With `recompute`, a block's activations are not kept but computed again on the way back; but for
    blocks of which queries, keys and values are kept, as those lead back to all of them.
    """
    selected, count = forward.selected, 0
    for count, block in enumerate(blocks, 1):
        if selected is not None:
            selected.keep_hidden(count - 1, x)
        again = recompute and not (selected is not None and count - 1 in selected.wanted.heads)
        x = checkpoint(_call(block, forward), x) if again else block(x, forward)
    if last is not None:
        x = last(x)
    if selected is not None:
        selected.keep_hidden(count, x)
    return x


def _call(block: Callable[[Tensor, Forward], Tensor], forward: Forward) -> Callable[..., Tensor]:
    return lambda x: block(x, forward)


def check_ids(ids: np.ndarray) -> None:
    """Raise ConfigError unless `ids` are integers (B, T)."""
    if ids.ndim != 2 or ids.dtype.kind not in "iu":
        raise ConfigError(
            f"ids must be integers of shape (batch, time), found {ids.dtype} {ids.shape}",
            hint="for one sequence use ids[None, :]",
        )


def starts_of(documents: np.ndarray | None, ids: np.ndarray) -> np.ndarray | None:
    """Where in its row the document of each id begins, (B, T), of what document each one is (equal
    neighbours are of one); None where every row is one document.

    Raises ShapeError unless `documents` are integers of the shape of `ids`.
    """
    if documents is None:
        return None
    documents = np.asarray(documents)
    if documents.shape != ids.shape or documents.dtype.kind not in "iu":
        raise ShapeError(
            f"documents {documents.dtype} {documents.shape} for ids {ids.shape}",
            hint="give an integer for each id; those of one document are equal",
        )
    starts = np.zeros(ids.shape, np.int64)
    starts[:, 1:] = np.arange(1, max(1, ids.shape[1]))
    starts[:, 1:][documents[:, 1:] == documents[:, :-1]] = 0
    starts = np.maximum.accumulate(starts, axis=1)
    return starts if starts.any() else None


def as_mask(mask: np.ndarray | None, batch: int, keys: int) -> np.ndarray | None:
    """A mask of 0 and 1, or booleans, (B, S) as booleans; None where every key counts.

    Raises ShapeError for another shape.
    """
    if mask is None:
        return None
    mask = np.asarray(mask)
    if mask.shape != (batch, keys):
        raise ShapeError(
            f"a mask of shape {mask.shape} for {batch} sequences of {keys} positions",
            hint=f"give shape ({batch}, {keys}), with what the cache holds: 1 for tokens that "
            "count, 0 for padding",
        )
    mask = mask.astype(bool)
    return None if mask.all() else mask
