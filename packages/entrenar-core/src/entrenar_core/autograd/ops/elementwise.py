"""Arithmetic with NumPy's broadcasting; the tape sums gradients back to the inputs' shapes."""

from entrenar_core.autograd.op import op


@op
def add(x, y):
    """x + y."""
    return x + y, (lambda g: g, lambda g: g)


@op
def sub(x, y):
    """x − y."""
    return x - y, (lambda g: g, lambda g: -g)


@op
def mul(x, y):
    """x · y."""
    return x * y, (lambda g: g * y, lambda g: g * x)


@op
def div(x, y):
    """x / y."""
    return x / y, (lambda g: g / y, lambda g: -g * x / (y * y))
