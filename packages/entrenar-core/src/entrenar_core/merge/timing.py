"""How long a merge will take, by merging a part of it."""

import time
from math import prod

from entrenar_core.merge.job import Job

SAMPLED = 4 * 2**20
"""Elements of which tensors are merged to know how fast the others are: what is smaller costs calls
more than numbers, and what is larger takes a while."""


def seconds_needed(job: Job) -> float:
    """Seconds for all tensors, without what reading from and writing to a slow disk takes: the
    tensor nearest to SAMPLED elements is merged, twice, since the first time kernels are loaded."""
    names = [name for name, tensor in job.tensors.items() if tensor.is_number]
    if not names:
        return 0.0
    sizes = {name: prod(job.tensors[name].shape) for name in names}
    chosen = min(names, key=lambda name: (abs(sizes[name] - SAMPLED), name))
    took = 0.0
    for _ in range(2):
        started = time.perf_counter()
        for _piece in job.tensors[chosen].pieces():
            pass
        took = time.perf_counter() - started
    job.observed.clear()
    return took * sum(sizes.values()) / max(sizes[chosen], 1)
