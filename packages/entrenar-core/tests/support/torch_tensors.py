"""Arrays of all types, and how they are compared with tensors of PyTorch."""

import numpy as np

from entrenar_core.io.dtypes import DTYPES

ARRAY_TYPES = [dtype for dtype in DTYPES if dtype.numpy is not None]


def some_tensors() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    found = {
        f"layer.{i}.{dtype.name}": rng.integers(0, 2, (2, i % 4 + 1)).astype(dtype.numpy)
        for i, dtype in enumerate(ARRAY_TYPES)
    }
    base = np.arange(24, dtype=np.float32).reshape(4, 6)
    return {
        **found,
        "scalar": np.array(3.5),
        "empty": np.zeros((2, 0, 3), np.float32),
        "ü": np.ones(3, np.int8),
        "transposed": base.T,
        "slices": base[::2, 1::2],
        "big": base.astype(">f4"),
    }


def same(found: np.ndarray, wanted) -> bool:
    """Whether an array has type, shape and bits of a tensor of PyTorch."""
    import torch

    flat = wanted.detach().contiguous().reshape(-1)
    raw = flat.view(torch.uint8) if flat.numel() else flat.to(torch.uint8)
    kind = {dtype.torch_name: dtype.numpy for dtype in DTYPES}[str(wanted.dtype)[6:]]
    shape = tuple(wanted.shape)
    return (found.dtype, found.shape, found.tobytes()) == (kind, shape, raw.numpy().tobytes())
