"""What methods of merging that draw keep of task vectors."""

import numpy as np

from entrenar_core.merge.tensor import merge_arrays

DENSITY, EPSILON = [0.2, 0.5, 0.7], [0.05, 0.2, 0.25]
KEY, SEED = "model.layers.3.mlp.up_proj.weight", 5


def masks(method, base, models, dtype):
    """Which elements of each model ours keeps: 1 or 0.

    Each model is merged alone, at its place among models that change nothing. What is drawn may
    depend on the ranks of task vectors in `dtype`, and on nothing else of the numbers.
    """
    deltas = np.stack([m.astype(np.float32) - base.astype(np.float32) for m in models])
    deltas = deltas.astype(dtype).astype(np.float32)
    deltas[deltas == 0] = 1e-30  # of the least rank too, and seen where it is kept
    nothing = np.zeros_like(deltas)
    settings = {"weight": 1.0, "density": DENSITY, "rescale": False, "normalize": False}
    if method.startswith("della"):
        settings["epsilon"] = EPSILON
    found = []
    for place, delta in enumerate(deltas):
        alone = nothing.copy()
        alone[place] = delta
        merged = merge_arrays(
            method, list(alone), base=nothing[0], settings=settings, key=KEY, seed=SEED
        )
        found.append(merged != 0)
    return np.array(found, np.float32)
