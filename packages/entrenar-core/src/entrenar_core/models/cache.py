"""Keys and values of the positions that a model has already seen."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from entrenar_common.errors import ShapeError, UnsupportedError
from entrenar_core.autograd import Tensor


class LayerCache:
    """One layer's keys and values: arrays (B, capacity, G, D) filled up to `length`."""

    def __init__(self, shape: tuple[int, int, int, int], dtype: np.dtype):
        self.keys, self.values = np.empty(shape, dtype), np.empty(shape, dtype)
        self.length = 0

    def append(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Add k, v (B, T, G, D); returns all that is held.

        Raises UnsupportedError while gradients are recorded, for none would pass through a cache,
        and ShapeError for more than there is room for.
        """
        stop = self.length + k.shape[1]
        if k.requires_grad or v.requires_grad:
            raise UnsupportedError(
                "no gradients pass through a key-value cache", hint="use it inside no_grad()"
            )
        if stop > self.keys.shape[1]:
            raise ShapeError(
                f"a key-value cache for {self.keys.shape[1]} positions is asked to hold {stop}",
                hint="make it with a larger capacity",
            )
        self.keys[:, self.length : stop] = k.data
        self.values[:, self.length : stop] = v.data
        self.length = stop
        return Tensor(self.keys[:, :stop]), Tensor(self.values[:, :stop])

    def keep(self, rows: Sequence[int]) -> None:
        """Forget all sequences but those numbered `rows`, which get that order."""
        self.keys, self.values = self._moved(self.keys, rows), self._moved(self.values, rows)

    def _moved(self, array: np.ndarray, rows: Sequence[int]) -> np.ndarray:
        kept = np.empty((len(rows), *array.shape[1:]), array.dtype)
        kept[:, : self.length] = array[list(rows), : self.length]
        return kept


class KVCache:
    """A cache for every layer of a model, for `batch` sequences of at most `capacity` positions.

    `config` says num_hidden_layers, num_key_value_heads and head_dim.
    """

    def __init__(self, config: Any, batch: int, capacity: int, dtype: np.dtype):
        shape = (batch, capacity, config.num_key_value_heads, config.head_dim)
        self.layers = [LayerCache(shape, dtype) for _ in range(config.num_hidden_layers)]

    @property
    def length(self) -> int:
        """Positions held."""
        return self.layers[0].length

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with the sequences numbered `rows` only."""
        for layer in self.layers:
            layer.keep(rows)
