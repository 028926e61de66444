"""Rearrangements that copy nothing where NumPy can avoid it."""

from entrenar_core.autograd.op import op


@op
def reshape(x, shape):
    """x with the same elements in `shape`."""
    before = x.shape
    return x.reshape(shape), (lambda g: g.reshape(before), None)
