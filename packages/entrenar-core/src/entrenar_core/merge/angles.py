"""Functions of angles in float32, each result the nearest there is.

numpy's own of float32 are other ones on other processors, and off by up to two steps. mergekit's
are MKL's: within 0.7 of a step, so the nearest in 91 to 95 % of the cases.
"""

from typing import Any

import numpy as np


def sin(x: Any) -> Any:
    return _nearest(np.sin, x)


def cos(x: Any) -> Any:
    return _nearest(np.cos, x)


def arccos(x: Any) -> Any:
    return _nearest(np.arccos, x)


def _nearest(function: Any, x: Any) -> Any:
    return np.float32(function(np.asarray(x, np.float64)))
