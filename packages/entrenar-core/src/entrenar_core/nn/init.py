"""First weights of a model, a pure function of the seed and each parameter's name."""

from collections.abc import Callable, Collection

import numpy as np

from entrenar_core.nn.module import Module
from entrenar_core.rng import stream


def initialise(
    module: Module,
    seed: int,
    std: float | Callable[[str], float],
    names: Collection[str] | None = None,
) -> None:
    """Matrices from N(0, std²), biases 0, norm weights 1, in place.

    `std` may be a function of the parameter's name; `names` are the parameters to draw, all of
    them by default.
    """
    for name, parameter in module.named_parameters().items():
        if names is not None and name not in names:
            continue
        if parameter.data.ndim >= 2:
            spread = std(name) if callable(std) else std
            draws = stream(seed, f"init {name}").standard_normal(parameter.shape, np.float32)
            parameter.data[...] = draws * np.float32(spread)
        else:
            parameter.data[...] = 0 if name.endswith("bias") else 1
