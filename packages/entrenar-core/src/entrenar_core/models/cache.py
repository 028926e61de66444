"""Keys and values of the positions that a model has already seen."""

import numpy as np

from entrenar_core.autograd import Tensor


class LayerCache:
    """One layer's keys and values: arrays (B, capacity, G, D) filled up to `length`."""

    def __init__(self, shape: tuple[int, int, int, int], dtype: np.dtype):
        self.keys, self.values = np.empty(shape, dtype), np.empty(shape, dtype)
        self.length = 0

    def append(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Add k, v (B, T, G, D); returns all that is held. No gradients pass through a cache."""
        stop = self.length + k.shape[1]
        self.keys[:, self.length : stop] = k.data
        self.values[:, self.length : stop] = v.data
        self.length = stop
        return Tensor(self.keys[:, :stop]), Tensor(self.values[:, :stop])


class KVCache:
    """A cache for every layer of a model, for `batch` sequences of at most `capacity` positions."""

    def __init__(self, config, batch: int, capacity: int, dtype: np.dtype):
        shape = (batch, capacity, config.num_key_value_heads, config.head_dim)
        self.layers = [LayerCache(shape, dtype) for _ in range(config.num_hidden_layers)]

    @property
    def length(self) -> int:
        """Positions held."""
        return self.layers[0].length
