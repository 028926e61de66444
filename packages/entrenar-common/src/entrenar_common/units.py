"""Sizes, counts and durations: from what a user writes, and to what a user reads (pure).

Sizes are in the unit that is said: 1 GB = 10⁹ bytes, 1 GiB = 2³⁰ bytes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from entrenar_common.errors import ConfigError

if TYPE_CHECKING:
    from fractions import Fraction

__all__ = [
    "format_binary",
    "format_bytes",
    "format_count",
    "format_duration",
    "parse_count",
    "parse_duration",
    "parse_memory",
    "parse_size",
]

_DECIMAL = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "PB": 10**15}
_BINARY = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40, "PiB": 2**50}
_COUNT = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}
_AMBIGUOUS = frozenset("kmgtp")
_SIZES = (
    {"": 1}
    | {unit.casefold(): factor for unit, factor in (_DECIMAL | _BINARY).items()}
    | {unit[:2].casefold(): factor for unit, factor in _BINARY.items() if unit != "B"}
)
_MEMORY = {"b": 1} | {
    unit[0].casefold() + end: factor
    for unit, factor in _BINARY.items()
    if unit != "B"
    for end in ("", "b", "i", "ib")
}
_MICROSECONDS = {
    "µs": 1,
    "us": 1,
    "ms": 1000,
    "s": 10**6,
    "m": 60 * 10**6,
    "h": 3600 * 10**6,
    "d": 86400 * 10**6,
}

_NUMBER = r"\d{1,18}(?:\.\d{1,18})?"
_QUANTITY = re.compile(rf"\s*([+-]?{_NUMBER})\s*([A-Za-zµ]*)\s*")
_DURATION_PART = re.compile(rf"\s*({_NUMBER})\s*([a-zµ]+)")


def format_bytes(n: float) -> str:
    """A number of bytes in powers of 1000, with one decimal from 1 kB on.

    >>> format_bytes(1_234_567_890)
    '1.2 GB'
    """
    return _format_size(n, _DECIMAL)


def format_binary(n: float) -> str:
    """A number of bytes in powers of 1024, with one decimal from 1 KiB on.

    >>> format_binary(1_234_567_890)
    '1.1 GiB'
    """
    return _format_size(n, _BINARY)


def _format_size(n: float, units: Mapping[str, int]) -> str:
    if not math.isfinite(n):
        return str(float(n))
    sign, magnitude = ("-" if n < 0 else ""), abs(n)
    (_, base), *_ = larger = [pair for pair in units.items() if pair[0] != "B"]
    if round(magnitude) < base:
        return f"{sign}{round(magnitude)} B"
    # By the value as it will be shown: 999 960 B is 1.0 MB, not 1000.0 kB.
    unit, factor = next(
        (pair for pair in larger if round(magnitude / pair[1], 1) < base), larger[-1]
    )
    return f"{sign}{magnitude / factor:.1f} {unit}"


def format_count(n: float) -> str:
    """A count or a rate to three significant digits, in K, M, B (10⁹) and T.

    >>> format_count(1_234_567), format_count(999), format_count(0.25)
    ('1.23M', '999', '0.25')
    """
    if not math.isfinite(n):
        return str(float(n))
    sign, magnitude = ("-" if n < 0 else ""), abs(n)
    # The suffix is chosen by the value as it will be shown: 999 999 is 1.00M, not 1000K.
    rounded = float(f"{magnitude:.2e}")
    if rounded < 1000:
        return f"{sign}{rounded:g}"
    suffix, factor = next(pair for pair in reversed(list(_COUNT.items())) if rounded >= pair[1])
    value = rounded / factor
    decimals = 2 if value < 10 else 1 if value < 100 else 0
    return f"{sign}{value:.{decimals}f}{suffix}"


def format_duration(seconds: float) -> str:
    """A duration in its two largest units, or with three digits below a minute.

    >>> format_duration(93_600), format_duration(125), format_duration(5.25), format_duration(0.01)
    ('1d 02h', '2m 05s', '5.2s', '10ms')
    """
    if not math.isfinite(seconds):
        return str(float(seconds))
    sign, magnitude = ("-" if seconds < 0 else ""), abs(seconds)
    if round(magnitude, 1) < 60:
        return sign + _format_short(magnitude)
    minutes, rest = divmod(round(magnitude), 60)
    if minutes < 60:
        return f"{sign}{minutes}m {rest:02d}s"
    hours, minutes = divmod(round(magnitude / 60), 60)
    if hours < 24:
        return f"{sign}{hours}h {minutes:02d}m"
    days, hours = divmod(round(magnitude / 3600), 24)
    return f"{sign}{days}d {hours:02d}h"


def _format_short(seconds: float) -> str:
    if seconds == 0:
        return "0s"
    if seconds >= 0.9995:
        return f"{seconds:.1f}s"
    scale, unit = (1e3, "ms") if seconds >= 0.9995e-3 else (1e6, "µs")
    return f"{float(f'{seconds * scale:.3g}'):g}{unit}"


def parse_size(text: str) -> int:
    """The bytes meant by a size such as `16GB` (10⁹), `16GiB` (2³⁰), `1.5 MB` or `4096`.

    Letter case does not matter. `16G` alone is refused: half the tools mean GB by it, and half GiB.

    >>> parse_size("16GB"), parse_size("16GiB")
    (16000000000, 17179869184)
    """
    value, unit = _quantity(text, "a size", "write it like 16GB (10⁹ bytes) or 16GiB (2³⁰ bytes)")
    if unit in _AMBIGUOUS:
        raise ConfigError(
            f"the size {text!r} can be read in two ways",
            hint=f"write {text.strip()}B (powers of 1000) or {text.strip()}iB (powers of 1024)",
        )
    factor = _factor(text, unit, _SIZES, "a size", _DECIMAL | _BINARY)
    if value < 0:
        raise ConfigError(f"the size {text!r} is negative", hint="give a size of at least 0")
    return round(value * factor)


def parse_memory(text: str) -> int:
    """The bytes of the memory that is sold as `16GB`: 16 GiB. `16G` and `16GiB` are the same.

    Memory is made in powers of two whatever is printed on it, so GB and MB are read as GiB and MiB
    here. A number without a unit, and less than a mebibyte, is refused: nobody has so little.

    >>> parse_memory("16GB") == parse_memory("16G") == parse_size("16GiB")
    True
    """
    hint = "write it like 16GB or 16GiB, which are the same for memory"
    value, unit = _quantity(text, "an amount of memory", hint)
    if unit not in _MEMORY:
        problem = f"there is no unit {unit!r}" if unit else "it has no unit"
        raise ConfigError(f"{text!r} is not an amount of memory: {problem}", hint=hint)
    if value * _MEMORY[unit] < 2**20:
        raise ConfigError(f"{text!r} of memory is less than a mebibyte", hint=hint)
    return round(value * _MEMORY[unit])


def parse_count(text: str) -> int:
    """The whole number meant by a count such as `4k`, `1.5M`, `7B` or `1200`.

    >>> parse_count("4k"), parse_count("1.5M")
    (4000, 1500000)
    """
    value, unit = _quantity(text, "a count", "write it like 1200, 4k, 1.5M or 7B")
    units = {name.casefold(): factor for name, factor in _COUNT.items()}
    count = value * _factor(text, unit, units, "a count", _COUNT)
    if count.denominator != 1:
        raise ConfigError(
            f"the count {text!r} is not a whole number",
            hint=f"write {round(count)} for the nearest whole number",
        )
    return int(count)


def parse_duration(text: str) -> float:
    """The seconds meant by a duration such as `2m 05s`, `1h30m`, `250ms` or `90` (seconds).

    >>> parse_duration("2m 05s"), parse_duration("90")
    (125.0, 90.0)
    """
    hint = "write it like 90s, 2m 05s, 1h30m or 2d"
    sign, body = (-1, text.strip()[1:]) if text.strip().startswith("-") else (1, text.strip())
    if re.fullmatch(_NUMBER, body):
        return float(sign * _exact(body))
    parts = _DURATION_PART.findall(body)
    if not parts or _DURATION_PART.sub("", body).strip():
        raise ConfigError(f"{text!r} is not a duration", hint=hint)
    total = sum(
        _exact(number) * _factor(text, unit, _MICROSECONDS, "a duration", _MICROSECONDS)
        for number, unit in parts
    )
    return float(sign * total / 10**6)


def _quantity(text: str, what: str, hint: str) -> tuple[Fraction, str]:
    match = _QUANTITY.fullmatch(text)
    if match is None:
        raise ConfigError(f"{text!r} is not {what}", hint=hint)
    return _exact(match[1]), match[2].casefold()


def _exact(number: str) -> Fraction:
    from fractions import Fraction  # what reads quantities needs it, and every program would wait

    return Fraction(number)


def _factor(
    text: str, unit: str, units: Mapping[str, int], what: str, shown: Mapping[str, int]
) -> int:
    if unit not in units:
        known = ", ".join(name for name in shown if name)
        raise ConfigError(f"{text!r} is not {what}: there is no unit {unit!r}", hint=f"use {known}")
    return units[unit]
