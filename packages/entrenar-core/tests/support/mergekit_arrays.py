"""mergekit's methods on NumPy arrays, and how far results are from each other."""

import ml_dtypes
import numpy as np

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)


def to_torch(array):
    """A copy of an array as a tensor."""
    import torch

    array = np.array(array)
    if array.dtype == BFLOAT16:
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def from_torch(tensor):
    """A tensor as an array."""
    import torch

    if tensor.dtype == torch.bfloat16:
        return tensor.contiguous().view(torch.int16).numpy().view(BFLOAT16)
    return tensor.contiguous().numpy()


def adds_every_16th():
    """Whether torch.dot of float32 does, as MKL does on processors that are not Intel's."""
    import torch

    numbers = torch.ones(32)
    numbers[0], numbers[16] = 2.0**60, -(2.0**60)  # what is added between them is lost
    return torch.dot(numbers, torch.ones(32)).item() == 30


def theirs(name, models, settings, *, base=None, dtype=None):
    """What mergekit's method makes of arrays that were cast to `dtype` first."""
    from mergekit import merge_methods
    from mergekit.merge_methods.base import TensorGroup

    arrays = [*([] if base is None else [base]), *models]
    tensors = [to_torch(array if dtype is None else array.astype(dtype)) for array in arrays]
    group = TensorGroup.from_tensors(
        tensors,
        ids=[f"model {number}" for number in range(len(tensors))],
        base_index=None if base is None else 0,
        name="weight",
    )
    (result,) = merge_methods.get(name)((group,), parameters=dict(settings))
    return from_torch(result)


def steps_apart(a, b):
    """How many numbers of their type lie between the elements of two arrays, and 1."""
    assert a.dtype == b.dtype
    kind = np.dtype(f"i{a.dtype.itemsize}")
    least = np.iinfo(kind).min
    bits = [np.ascontiguousarray(x).view(kind).astype(np.int64) for x in (a, b)]
    ordered = [np.where(x < 0, least - x, x) for x in bits]  # -0 is 0
    return np.abs(ordered[0] - ordered[1])


def related(shape, models, *, dtype, seed=0):
    """A base, and models that were made from it, as weights of transformers are."""
    rng = np.random.default_rng(seed)
    base = (rng.standard_normal(shape) * 0.05).astype(dtype)
    changes = rng.standard_normal((models, *shape)) * 0.01
    return base, [(base.astype(np.float64) + change).astype(dtype) for change in changes]
