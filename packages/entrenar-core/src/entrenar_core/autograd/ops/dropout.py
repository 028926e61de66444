"""Dropout: what is dropped is a function of a key, so nothing is kept for the gradient."""

from entrenar_common.errors import ConfigError
from entrenar_core import kernels
from entrenar_core.autograd.op import op


@op
def dropout(x, *, p, key):
    """x / (1 − p), or 0 with probability p, as the counters of the integer `key` decide.

    The same key drops the same elements: see `kernels.dropout`.
    Source: Srivastava et al. 2014, JMLR 15.
    """
    if not 0 <= p < 1:
        raise ConfigError(
            f"dropout: p is {p}", hint="the share that is dropped is at least 0 and less than 1"
        )
    if p == 0:
        return x, (lambda g: g,)
    return kernels.dropout(x, p=p, key=key), (lambda g: kernels.dropout(g, p=p, key=key),)
