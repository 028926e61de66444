"""Cases of counting and summing what is in an array."""

import numpy as np

from entrenar_core.kernels.tallying import PATTERNS
from entrenar_core.testing_cases.case import WIDE, Arguments, Case, Draw

SIZES = (1, 17, 4097, WIDE)


def _tally(d: Draw, size: int) -> Arguments:
    bits = np.where(np.arange(size) % 3, d.ids(PATTERNS, size), 7)  # some often, and side by side
    return {"bits": bits.astype(np.uint16), "counts": np.arange(PATTERNS)}


def _survey(d: Draw, size: int) -> Arguments:
    x = d.normal(size).astype(np.float32)
    x[size // 2] = 0.0
    return {"x": x, "counts": np.arange(PATTERNS)}


def _bad_survey(d: Draw, size: int) -> Arguments:
    arguments = _survey(d, size)
    arguments["x"][[0, size // 3, size - 1]] = [np.inf, -np.inf, np.inf]
    return arguments


CASES: dict[str, list[Case]] = {
    "tallying.tally": [Case(f"{n}", lambda d, n=n: _tally(d, n)) for n in SIZES],
    "tallying.survey": [
        *[Case(f"{n}", lambda d, n=n: _survey(d, n)) for n in SIZES],
        Case("not finite", lambda d: _bad_survey(d, 9001)),
    ],
}
