"""Frequencies of the rotary position embedding and the ways to stretch them over longer contexts.

The parameters have Hugging Face's names (`rope_parameters` of a config). Each kind is one function
from the base frequencies to the stretched ones, registered by name.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from entrenar_common.errors import ConfigError, UnsupportedError

Frequencies = tuple[np.ndarray, float]
"""Inverse frequencies (D/2,) and the factor on cos and sin."""

PARAMETERS = {
    "attention_factor", "beta_fast", "beta_slow", "factor", "high_freq_factor", "low_freq_factor",
    "mscale", "mscale_all_dim", "original_max_position_embeddings", "partial_rotary_factor",
    "rope_theta", "rope_type", "truncate",
}  # fmt: skip
"""What the kinds below understand between them; another name would change the angles unseen."""

_KINDS: dict[str, Callable[["Rotary", int], Frequencies]] = {}


def _kind(name: str) -> Callable[[Any], Any]:
    def register(function: Any) -> Any:
        _KINDS[name] = function
        return function

    return register


class Rotary:
    """cos and sin tables of a config: `Rotary(head_dim, parameters, max_position_embeddings)`.

    Raises UnsupportedError for an unknown `rope_type` and ConfigError for a missing parameter.
    """

    def __init__(self, head_dim: int, parameters: Mapping[str, Any], max_positions: int):
        self.head_dim, self.parameters, self.max_positions = head_dim, parameters, max_positions
        self.kind = parameters.get("rope_type", "default")
        if self.kind not in _KINDS:
            raise UnsupportedError(
                f"rope scaling of type {self.kind!r} is not supported",
                hint=f"supported: {', '.join(sorted(_KINDS))}",
            )
        unknown = sorted(set(parameters) - PARAMETERS)
        if unknown:
            raise UnsupportedError(
                f"rope parameter {', '.join(unknown)} is not supported",
                hint=f"supported: {', '.join(sorted(PARAMETERS))}",
            )
        if head_dim % 2:
            raise ConfigError(
                f"head_dim {head_dim} is odd; rotary embedding pairs its elements",
                hint="use an even head_dim",
            )
        self._tables: tuple[np.ndarray, np.ndarray] | None = None
        self._frequencies(1)  # a missing parameter is reported now

    def tables(self, start: int, stop: int, dtype: Any) -> tuple[np.ndarray, np.ndarray]:
        """cos and sin (stop − start, D/2) for the positions start … stop − 1."""
        if self.kind == "dynamic" and stop > self.max_positions:
            return self._compute(start, stop, dtype)  # depends on the length: not kept
        if self._tables is None or len(self._tables[0]) < stop or self._tables[0].dtype != dtype:
            # dynamic frequencies are those of the trained length up to it
            length = self.max_positions if self.kind == "dynamic" else max(stop, 256)
            self._tables = self._compute(0, length, dtype)
        cos, sin = self._tables
        return cos[start:stop], sin[start:stop]

    def at(self, positions: np.ndarray, dtype: Any) -> tuple[np.ndarray, np.ndarray]:
        """cos and sin (B, T, D/2) for the `positions` (B, T) of each sequence. Where they fall,
        another sequence begins in the same row."""
        if self.kind == "dynamic":  # the frequencies depend on how far each sequence has come
            pairs = [self._of_row(row, dtype) for row in positions]
            return np.stack([cos for cos, _ in pairs]), np.stack([sin for _, sin in pairs])
        cos, sin = self.tables(0, int(positions.max()) + 1, dtype)
        return cos[positions], sin[positions]

    def _of_row(self, row: np.ndarray, dtype: Any) -> tuple[np.ndarray, np.ndarray]:
        parts = np.split(row, np.flatnonzero(np.diff(row) < 0) + 1)
        tables = [self.tables(0, int(part.max()) + 1, dtype) for part in parts]
        cos = [table[part] for (table, _), part in zip(tables, parts, strict=True)]
        sin = [table[part] for (_, table), part in zip(tables, parts, strict=True)]
        return np.concatenate(cos), np.concatenate(sin)

    def _compute(self, start: int, stop: int, dtype: Any) -> tuple[np.ndarray, np.ndarray]:
        inverse, factor = self._frequencies(stop)
        # float32 frequencies and angles are what the reference implementation rounds to
        angles = np.arange(start, stop, dtype=np.float32)[:, None] * inverse.astype(np.float32)
        wide = angles.astype(np.float64)
        return (np.cos(wide) * factor).astype(dtype), (np.sin(wide) * factor).astype(dtype)

    def inverse_frequencies(self) -> np.ndarray:
        """The angle per position of each pair of elements, (D/2,) float64, within the trained
        length."""
        return self._frequencies(self.max_positions)[0]

    def magnitude(self) -> float:
        """The factor on cos and sin."""
        return self._frequencies(self.max_positions)[1]

    def _frequencies(self, length: int) -> Frequencies:
        return _KINDS[self.kind](self, length)

    def base(self, theta: float | None = None) -> np.ndarray:
        """θ^(−2j/D) for j < D/2."""
        theta = self["rope_theta"] if theta is None else theta
        return 1.0 / theta ** (np.arange(0, self.head_dim, 2) / self.head_dim)

    def __getitem__(self, name: str) -> float:
        value = self.parameters.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
            raise ConfigError(
                f"rope type {self.kind!r} needs a positive {name}, found {value!r}",
                hint="see rope_parameters (or rope_theta and rope_scaling) in config.json",
            )
        return float(value)

    def trained_positions(self) -> float:
        """`original_max_position_embeddings`, or the config's own maximum where it is missing."""
        found = self.parameters.get("original_max_position_embeddings")
        return float(found or self.max_positions)


@_kind("default")
def _default(rotary: Rotary, _length: int) -> Frequencies:
    return rotary.base(), 1.0


@_kind("linear")
def _linear(rotary: Rotary, _length: int) -> Frequencies:
    """Positions divided by `factor`: Chen et al. 2023, arXiv:2306.15595."""
    return rotary.base() / rotary["factor"], 1.0


@_kind("dynamic")
def _dynamic(rotary: Rotary, length: int) -> Frequencies:
    """θ grows with the length beyond the trained one (NTK-aware scaling)."""
    factor, positions, dim = rotary["factor"], rotary.max_positions, rotary.head_dim
    stretch = factor * max(length, positions) / positions - (factor - 1)
    return rotary.base(rotary["rope_theta"] * stretch ** (dim / (dim - 2))), 1.0


@_kind("llama3")
def _llama3(rotary: Rotary, _length: int) -> Frequencies:
    """Long waves divided by `factor`, short ones kept, a ramp between: Llama 3.1's rule."""
    low, high = rotary["low_freq_factor"], rotary["high_freq_factor"]
    inverse = rotary.base()
    turns = rotary.trained_positions() * inverse / (2 * math.pi)  # per trained context
    smooth = np.clip((turns - low) / (high - low), 0.0, 1.0)
    return inverse * (smooth + (1 - smooth) / rotary["factor"]), 1.0


@_kind("yarn")
def _yarn(rotary: Rotary, _length: int) -> Frequencies:
    """Peng et al. 2023, arXiv:2309.00071: a ramp over dimensions, and a factor on cos and sin."""
    parameters, dim = rotary.parameters, rotary.head_dim
    theta, trained = rotary["rope_theta"], rotary.trained_positions()
    factor = rotary["factor"]

    def dimension(rotations: float) -> float:
        return dim * math.log(trained / (rotations * 2 * math.pi)) / (2 * math.log(theta))

    low = dimension(parameters.get("beta_fast") or 32)
    high = dimension(parameters.get("beta_slow") or 1)
    if parameters.get("truncate", True):
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, dim - 1)
    ramp = np.clip((np.arange(dim // 2) - low) / (high - low or 0.001), 0.0, 1.0)
    inverse = rotary.base() * (ramp / factor + (1 - ramp))
    return inverse, _yarn_factor(parameters, factor)


def _yarn_factor(parameters: Mapping[str, Any], factor: float) -> float:
    given = parameters.get("attention_factor")
    if given is not None:
        return float(given)

    def scale(weight: float) -> float:
        return 1.0 if factor <= 1 else 0.1 * weight * math.log(factor) + 1.0

    mscale, all_dim = parameters.get("mscale"), parameters.get("mscale_all_dim")
    return scale(mscale) / scale(all_dim) if mscale and all_dim else scale(1.0)
