"""Comparisons, which give plain arrays of booleans: they have no gradient."""

from collections.abc import Callable
from typing import Any

import numpy as np

from entrenar_core.autograd.op import no_grad, op
from entrenar_core.autograd.ops.operands import operands


def _comparison(ufunc: np.ufunc, sign: str) -> Callable[[Any, Any], np.ndarray]:
    def compare(x: Any, y: Any) -> Any:
        x, y = operands(x, y)
        return ufunc(x, y), ()

    compare.__name__, compare.__doc__ = ufunc.__name__, f"x {sign} y, broadcast, as booleans."
    checked = op(compare)

    def call(x: Any, y: Any) -> np.ndarray:
        with no_grad():
            return checked(x, y).data

    call.__name__, call.__doc__ = compare.__name__, compare.__doc__
    return call


equal = _comparison(np.equal, "=")
not_equal = _comparison(np.not_equal, "≠")
less = _comparison(np.less, "<")
less_equal = _comparison(np.less_equal, "≤")
greater = _comparison(np.greater, ">")
greater_equal = _comparison(np.greater_equal, "≥")
