"""The figures in a line of the log, by the names under which they are shown."""

from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["figures", "flat"]


def flat(record: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """What a line says, by one name each: those inside others are `outer/inner`."""
    for name, value in record.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{name}/")
        else:
            yield f"{prefix}{name}", value


def figures(record: Mapping[str, Any]) -> dict[str, float]:
    """The numbers in a line of the log but its step, NaN and infinity too; true is 1.

    >>> figures({"phase": "student", "step": 3, "loss": 2.5, "sqnr_db": {"head": 40.0}})
    {'loss': 2.5, 'sqnr_db/head': 40.0}
    """
    numbers = {n: float(v) for n, v in flat(record) if isinstance(v, int | float)}
    numbers.pop("step", None)
    return numbers
