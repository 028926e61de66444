"""Methods that draw, beside mergekit's with the same draws."""

import ml_dtypes
import numpy as np
import pytest

from drawn_masks import DENSITY, EPSILON, KEY, SEED, masks
from entrenar_core.merge.tensor import merge_arrays
from mergekit_arrays import related, steps_apart, theirs, to_torch

SHAPE = (120, 257)
BFLOAT16, FLOAT16, FLOAT32 = map(np.dtype, (ml_dtypes.bfloat16, np.float16, np.float32))


@pytest.fixture
def same_draws(monkeypatch):
    """Has mergekit keep, model after model, what ours keeps."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("mergekit")

    def inject(kept):
        left = iter(kept)

        def bernoulli(chances):
            mask = next(left)
            assert mask.size == chances.numel()
            return to_torch(mask).reshape(chances.shape).to(chances.dtype)

        monkeypatch.setattr(torch, "bernoulli", bernoulli)
        return left

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield inject
    torch.set_num_threads(before)


@pytest.mark.parity
@pytest.mark.filterwarnings("ignore:numpy.core is deprecated:DeprecationWarning")
@pytest.mark.parametrize("dtype", [FLOAT32, BFLOAT16, FLOAT16], ids=str)
@pytest.mark.parametrize("changes", [{}, {"rescale": False}, {"normalize": True, "lambda": 0.8}])
@pytest.mark.parametrize("method", ["dare_linear", "dare_ties", "della", "della_linear"])
def test_with_the_same_draws_the_result_is_mergekits(method, changes, dtype, same_draws):
    base, models = related(SHAPE, 3, dtype=dtype)
    settings = {"weight": [0.3, 0.6, -0.4], "density": DENSITY} | changes
    if method.startswith("della"):
        settings["epsilon"] = EPSILON
    left = same_draws(masks(method, base, models, dtype))
    wanted = theirs(method, models, settings, base=base)
    assert next(left, None) is None
    found = merge_arrays(method, models, base=base, settings=settings, key=KEY, seed=SEED)
    wide, wide_wanted = (x.astype(np.float64) for x in (found, wanted))
    if dtype == FLOAT32:
        # a sum of torch is off in the seventh digit, and with it the factor of rescaling
        assert np.abs(wide - wide_wanted).max() <= 2.4e-7 * np.abs(wide_wanted).max()
    elif dtype == BFLOAT16 and changes.get("rescale", True):
        step = float(ml_dtypes.finfo(dtype).eps)
        assert np.linalg.norm(wide - wide_wanted) <= step * np.linalg.norm(wide_wanted)
    else:  # mergekit draws for float16 in float32, and rounds what was rescaled
        assert (steps_apart(found, wanted) == 0).mean() >= 0.999
