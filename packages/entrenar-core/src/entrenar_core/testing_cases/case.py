"""What a case is, and how its numbers are drawn."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

from entrenar_core.rng import stream

Arguments = dict[str, Any]


WIDE = 65_537
"""The first prime beyond 16 bits."""


@dataclass(frozen=True)
class Case:
    """One call of a kernel. `make(draw)` returns its arguments by name, fresh each time, because
    some kernels write to them; `scratch` names arguments whose contents afterwards mean nothing.
    `step` is for kernels that round to a coarse type on their way: a number half-way between two of
    it, to within rounding, becomes either, and this is the distance of the two."""

    name: str
    make: Callable[["Draw"], Arguments]
    scratch: tuple[str, ...] = ()
    step: float = 0.0

    def arguments(self, dtype: str = "float32") -> Arguments:
        """The same numbers for every call and, up to rounding, for every dtype."""
        return self.make(Draw(self.name, dtype))


class Draw:
    """Random arguments that depend on the case's name only."""

    def __init__(self, name: str, dtype: str):
        self._rng = stream(0, f"case {name}")
        self.dtype = np.dtype(getattr(ml_dtypes, dtype, dtype))

    def normal(self, *shape: int) -> np.ndarray:
        # drawn as float32, so that float64 arguments are the very same numbers
        return self._rng.standard_normal(shape, np.float32).astype(self.dtype)

    def positive(self, *shape: int) -> np.ndarray:
        return np.abs(self.normal(*shape)) + self.dtype.type(0.5)

    def ids(self, high: int, *shape: int) -> np.ndarray:
        return self._rng.integers(0, high, shape)

    def targets(self, high: int, rows: int, ignored: float = 0.3) -> np.ndarray:
        """Labels below `high`; about a share `ignored` of them are −100."""
        return np.where(self._rng.random(rows) < ignored, -100, self.ids(high, rows))


def elementwise(*names: str) -> Callable[..., list[Case]]:
    def cases(*shapes: tuple[int, int], scale: float = 1.0) -> list[Case]:
        def maker(shape: tuple[int, int]) -> Callable[[Draw], Arguments]:
            return lambda d: {n: d.normal(*shape) * d.dtype.type(scale) for n in names}

        return [Case(f"{shape} times {scale}", maker(shape)) for shape in shapes]

    return cases


def with_options(case: Case, **options: Any) -> Callable[[Draw], Arguments]:
    return lambda d: case.make(d) | options


BEYOND_CACHES = (8200, 512)
"""Large enough, with rows of whole vectors, for a result to be written past the caches."""

SHAPES = ((1, 1), (1, 17), (33, 1), (7, 129), (WIDE, 1), (2, WIDE))
