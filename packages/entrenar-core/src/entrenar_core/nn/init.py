"""First weights of a model, a pure function of the seed and each parameter's name."""

import numpy as np

from entrenar_core.nn.module import Module
from entrenar_core.rng import stream


def initialise(module: Module, seed: int, std: float) -> None:
    """Matrices from N(0, std²), biases 0, norm weights 1, in place."""
    for name, parameter in module.named_parameters().items():
        if parameter.data.ndim >= 2:
            draws = stream(seed, f"init {name}").standard_normal(parameter.shape, np.float32)
            parameter.data[...] = draws * np.float32(std)
        else:
            parameter.data[...] = 0 if name.endswith("bias") else 1
