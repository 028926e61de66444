"""Where an element of a tensor is."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Place:
    """An element by its indices, one for each axis.

    >>> str(place_of((3, 4), 5))
    '[1, 1]'
    """

    index: tuple[int, ...]

    def __str__(self) -> str:
        return str(list(self.index))


def place_of(shape: tuple[int, ...], flat: int) -> Place:
    """The place of the element with this number in C order."""
    return Place(tuple(int(i) for i in np.unravel_index(flat, shape or (1,))))
