"""Formats for weights of few bits: what a format is, and the arrays that are stored in one.

A format turns an array of floats into a stored array (`quantize`), and a stored array gives the
floats back that it stands for (`dequantize`). `FORMATS` has them by name.
"""

from abc import ABC, abstractmethod
from math import prod
from typing import ClassVar

import numpy as np

from entrenar_common.errors import NumericsError, UnsupportedError
from entrenar_common.text import nearest
from entrenar_core.kernels.held import Rows


class Stored(Rows):
    """An array in the format `form`; `shape` is that of the floats.

    A matrix gives its rows a part at a time too: `kernels.Held` makes it a model's weight.
    """

    form: "Format"

    @abstractmethod
    def dequantize(self) -> np.ndarray:
        """The floats that it stands for, float32 of `shape`."""

    @property
    def size(self) -> int:
        """The number of elements."""
        return prod(self.shape)

    @property
    def bits_per_weight(self) -> float:
        """Bits kept for each element, scales included."""
        return 8 * self.nbytes / self.size if self.size else 0.0


class Format(ABC):
    """How floats are stored. Subclasses are frozen dataclasses: two with equal fields are one."""

    name: str
    holds_output: ClassVar[bool] = False
    """Whether a model that is held in the format has its output projection in it too."""

    @abstractmethod
    def quantize(self, array: np.ndarray) -> Stored:
        """`array` (any shape that the format allows, any float type) in this format.

        Raises NumericsError for NaN or infinity, ShapeError for a shape that cannot be stored.
        """

    def keeps(self, other: "Format") -> bool:
        """Whether an array that is stored as `other` need not be stored anew to be in this."""
        return other == self

    def taken(self, stored: Stored) -> Stored | None:
        """`stored` in this format with the very numbers that it has; None where they have to be
        rounded anew."""
        return stored if self.keeps(stored.form) else None


FORMATS: dict[str, Format] = {}
"""Every format by its name; those with options under their default ones."""


def register(form: Format) -> Format:
    """Make `form` known by its name."""
    FORMATS[form.name] = form
    return form


def format_named(name: str | Format) -> Format:
    """The format called `name`, in any case; a Format is returned as it is.

    Raises UnsupportedError, with the nearest name, where there is none.
    """
    if isinstance(name, Format):
        return name
    found = FORMATS.get(name.lower())
    if found is None:
        close = nearest(name.lower(), list(FORMATS))
        raise UnsupportedError(
            f"there is no format {name!r}",
            hint=f"did you mean {close}?" if close else f"formats: {', '.join(FORMATS)}",
        )
    return found


def quantize(array: np.ndarray, form: str | Format) -> Stored:
    """`array` stored in the format called `form`.

    Raises NumericsError for NaN or infinity, ShapeError for a shape that the format cannot store,
    UnsupportedError for an unknown name.

    >>> stored = quantize(np.linspace(-1, 1, 64, dtype=np.float32).reshape(2, 32), "q8_0")
    >>> stored.shape, stored.nbytes, stored.bits_per_weight
    ((2, 32), 68, 8.5)
    >>> float(abs(dequantize(stored)[0, 0] + 1)) < 1e-3
    True
    """
    return format_named(form).quantize(array)


def dequantize(stored: Stored) -> np.ndarray:
    """The floats that `stored` stands for, float32 of its shape."""
    return stored.dequantize()


def as_finite_float32(array: np.ndarray, name: str) -> np.ndarray:
    """`array` as C-contiguous float32; NumericsError where it has NaN or infinity.

    `name` is the format's, for the message.
    """
    wide = np.ascontiguousarray(array, np.float32)
    # one element that is not finite makes the sum so; the reverse does not hold
    with np.errstate(over="ignore", invalid="ignore"):
        suspicious = not np.isfinite(wide.sum())
    if suspicious and not np.isfinite(wide).all():
        where = np.unravel_index(int(np.argmin(np.isfinite(wide))), wide.shape)
        index = tuple(int(i) for i in where)
        raise NumericsError(
            f"element {index} is {float(wide[where])}: {name} stores finite numbers only",
            hint="find out where the weights went wrong; a checkpoint from before may be whole",
        )
    return wide
