"""Which elements of an array share a scale: all, those of a channel, or those of a group."""

from dataclasses import dataclass

import numpy as np

from entrenar_common.errors import ConfigError, ShapeError

KINDS = ("tensor", "channel", "group")


@dataclass(frozen=True)
class Grain:
    """`kind` is "tensor" (one scale), "channel" (one for each index of `axis`) or "group" (one for
    `group` neighbours within a channel).

    `axis` is that of the outputs: 0 for the weight (out, in) of a linear layer. Raises ConfigError
    for another kind, a group that is not positive, or a group where there is none.

    >>> Grain("group", group=2).blocks(np.arange(8).reshape(2, 4)).tolist()
    [[0, 1], [2, 3], [4, 5], [6, 7]]
    """

    kind: str = "channel"
    group: int | None = None
    axis: int = 0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ConfigError(f"granularity {self.kind!r}", hint=f"use one of {', '.join(KINDS)}")
        if (self.kind == "group") != (self.group is not None) or (self.group or 1) < 1:
            raise ConfigError(
                f"granularity {self.kind} with groups of {self.group}",
                hint="give a positive group with the granularity group, and with it alone",
            )

    @property
    def suffix(self) -> str:
        """What the name of a format has at its end: nothing for channels of axis 0."""
        kinds = {"tensor": "-tensor", "channel": "", "group": f"-g{self.group}"}
        return kinds[self.kind] + (f"-axis{self.axis}" if self.axis else "")

    def blocks(self, array: np.ndarray) -> np.ndarray:
        """`array` as (scales, elements that share one). ShapeError where groups do not fit."""
        if not array.size:
            return array.reshape(0, 1)
        rows = self._channels_first(array)
        lengths = {"tensor": array.size, "channel": rows.shape[1], "group": self.group or 1}
        length = lengths[self.kind]
        if self.kind == "group" and rows.shape[1] % length:
            raise ShapeError(
                f"channels of {rows.shape[1]} elements (shape {array.shape}, axis {self.axis}) are "
                f"no whole number of groups of {length}",
                hint="choose a group that divides them, or the granularity channel",
            )
        return rows.reshape(-1, length)

    def restore(self, blocks: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """What `blocks` made of an array of `shape`, in that shape again."""
        if not self.axis or len(shape) < 2:
            return blocks.reshape(shape)
        axis = self.axis % len(shape)
        moved = (shape[axis], *shape[:axis], *shape[axis + 1 :])
        return np.moveaxis(blocks.reshape(moved), 0, axis)

    def _channels_first(self, array: np.ndarray) -> np.ndarray:
        if array.ndim < 2:  # a vector is one channel
            return array.reshape(1, -1)
        if not -array.ndim <= self.axis < array.ndim:
            raise ShapeError(
                f"no axis {self.axis} in an array of shape {array.shape}",
                hint="axis counts from 0",
            )
        return np.moveaxis(array, self.axis, 0).reshape(array.shape[self.axis], -1)
