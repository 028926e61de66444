"""How much of a teacher's predictions is kept, and how exactly."""

import math
from dataclasses import dataclass

from entrenar_common.errors import ConfigError

PRECISIONS = {"float16": "<f2", "float32": "<f4"}
"""The type of what is stored of a kept id, by its name."""

MOST = 2**16 - 1
"""Ids that are kept of a position at most: their number is stored in 16 bits."""


@dataclass(frozen=True)
class Settings:
    """Of each position the teacher's likeliest ids are kept, as few as have the share `mass` of
    its probability at temperature 1, at least one and at most `max_k`. For each of the
    `temperatures` the probability of all others together is stored too.

    `precision` is that of the kept ids' logits, less the highest one. Raises ConfigError for
    numbers that mean nothing.
    """

    temperatures: tuple[float, ...]
    mass: float = 0.99
    max_k: int = 512
    precision: str = "float16"

    def __post_init__(self) -> None:
        wrong = {
            "mass": not 0 < self.mass <= 1,
            "max_k": not 1 <= self.max_k <= MOST,
            "precision": self.precision not in PRECISIONS,
            "temperatures": not self.temperatures
            or len(set(self.temperatures)) < len(self.temperatures)
            or not all(0 < t < math.inf for t in self.temperatures),
        }
        for name in (name for name, refused in wrong.items() if refused):
            raise ConfigError(
                f"{name} {getattr(self, name)} is not possible for a cache of predictions",
                hint=f"mass is above 0 and at most 1, max_k from 1 to {MOST}, precision one of "
                f"{', '.join(PRECISIONS)}, temperatures above 0 and each given once",
            )
