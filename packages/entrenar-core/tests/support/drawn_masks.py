"""What methods of merging that draw keep of task vectors."""

import numpy as np

from entrenar_core.kernels import merging
from entrenar_core.merge.group import Group, Held
from entrenar_core.merge.trimming import drawn, drawn_by_rank

DENSITY, EPSILON = [0.2, 0.5, 0.7], [0.05, 0.2, 0.25]
KEY, SEED = "model.layers.3.mlp.up_proj.weight", 5


def masks(method, base, models, dtype):
    """Which elements of each model ours keeps: 1 or 0."""
    group = Group([Held(m) for m in models], Held(base), dtype, key=KEY, seed=SEED)
    if not method.startswith("della"):
        found = np.ones((len(models), base.size), np.float32)
        draw = drawn(group, DENSITY)
        return merging.keep_drawn(found, draw.keys, draw.limits, 0).reshape(-1, *base.shape)
    deltas = np.stack([m.astype(np.float32) - base.astype(np.float32) for m in models])
    deltas = deltas.astype(dtype).astype(np.float32)
    # ranks are those of the magnitudes, so ones will not do; a 0 is kept or not all the same
    nonzero = np.where(deltas == 0, np.float32(1e-30), deltas)
    draw = drawn_by_rank(group, DENSITY, EPSILON)
    return (merging.keep_ranked(nonzero, draw.keys, draw.chances, 0) != 0).astype(np.float32)
