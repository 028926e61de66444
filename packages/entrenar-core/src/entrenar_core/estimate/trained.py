"""What is trained: how many numbers, and in tensors of which sizes."""

from entrenar_core.estimate.setup import Setup
from entrenar_core.estimate.shape import ModelShape


def trained_sizes(shape: ModelShape, setup: Setup) -> list[int]:
    """How many numbers each trained tensor has: every parameter, or A and B of each adapter."""
    if setup.is_full:
        return list(shape.sizes)
    return [setup.rank * side for name in setup.targets for side in shape.linears[name][::-1]]


def trained_parameters(shape: ModelShape, setup: Setup) -> int:
    """How many numbers are trained."""
    return sum(trained_sizes(shape, setup))
