"""One merged tensor: made in pieces while it is written, and compared with what it is made of."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from entrenar_common.errors import ConfigError, NumericsError
from entrenar_common.text import escape_controls
from entrenar_core import kernels
from entrenar_core.kernels import comparing
from entrenar_core.merge.group import Block, Group, Held, rounded_to, working_type
from entrenar_core.merge.method import Method, method_named

Observe = Callable[[np.ndarray, int], None]
"""Called once with what `kernels.merging.compare` finds of a whole tensor."""


@dataclass(frozen=True, eq=False)
class MergedTensor:
    """The tensor that a method makes of a group, as `dtype`; see `io.streamed`."""

    method: Method
    group: Group
    settings: Mapping[str, Any]
    dtype: np.dtype
    observe: Observe | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return self.group.shape

    def pieces(self) -> Iterator[np.ndarray]:
        """Its rows in order, some at a time.

        Raises NumericsError, naming tensor and model, where an element is not finite.
        """
        group = self.group
        rule = self.method.rule(group, self.settings)
        products, conflicts = np.zeros((0, 0)), 0
        for block in group.blocks():
            found = np.ascontiguousarray(rule(block), np.float32)
            seen, disagreeing = _compared(block, found)
            products = seen if not products.size else products + seen
            conflicts += disagreeing
            if not np.isfinite(seen).all():
                _complain(group, block)
            yield _stored(found, self.dtype, group)
        if self.observe is not None:
            self.observe(products, conflicts)


def _compared(block: Block, found: np.ndarray) -> tuple[np.ndarray, int]:
    changes = block.changes.reshape(len(block.changes), -1)
    base = block.base if block.has_base else np.zeros(block.shape, np.float32)
    return comparing.compare(changes, base.reshape(-1), found.reshape(-1))


def _complain(group: Group, block: Block) -> None:
    """Raise NumericsError for what is not finite in a block."""
    labels = [*([group.base_label] if block.has_base else []), *group.labels]
    where = escape_controls(group.key)
    for label, rows in zip(labels, block.inputs, strict=True):
        if not np.isfinite(rows).all():
            kind = "NaN" if np.isnan(rows).any() else "an infinite number"
            raise NumericsError(
                f"{where} of {escape_controls(label)} has {kind} in it",
                hint="that model is damaged: leave it out, or fetch it again",
            )
    raise NumericsError(
        f"{where}: the merged tensor is not finite in {group.work.name}",
        hint="give dtype: float32, or other weights",
    )


def _stored(found: np.ndarray, dtype: np.dtype, group: Group) -> np.ndarray:
    if dtype != group.work:  # else both are one and the same rounding
        found = rounded_to(found, group.work)
    if dtype == np.float32:
        return found
    rounded = kernels.rounded(found, out=np.empty(found.shape, dtype))
    if dtype == np.float16 and not np.isfinite(rounded).all():
        raise NumericsError(
            f"{escape_controls(group.key)}: {np.abs(found).max():.4g} does not fit float16",
            hint="give out_dtype: bfloat16 or float32",
        )
    return rounded


def merge_arrays(
    name: str,
    models: Sequence[np.ndarray],
    *,
    base: np.ndarray | None = None,
    settings: Mapping[str, Any] | None = None,
    dtype: np.dtype | None = None,
    key: str = "",
    seed: int = 0,
) -> np.ndarray:
    """The tensor that the method of that name makes of `models`, arrays of one shape.

    `settings` are its parameters by name; of those that each model has, a number for all, or one
    for each. The arithmetic is that of `dtype`, by default of the smallest type that holds all of
    them, and so is the result. `key` and `seed` decide what random methods draw.

    Raises ConfigError for settings that the method does not have or lacks, NumericsError.

    >>> a, b = np.ones((2, 2), np.float32), np.zeros((2, 2), np.float32)
    >>> merge_arrays("linear", [a, b], settings={"weight": [3, 1]})[0]
    array([0.75, 0.75], dtype=float32)
    """
    method = method_named(name)
    given = [Held(np.asarray(x)) for x in (models if base is None else [base, *models])]
    if len({x.shape for x in given}) != 1:
        raise ConfigError(
            f"arrays of shapes {', '.join(str(x.shape) for x in given)}",
            hint="give arrays of one shape",
        )
    work = dtype or working_type([x.dtype for x in given])
    first = given[0] if base is not None and method.base != "ignored" else None
    others = given[1:] if first is not None else given
    labels = [f"model {number}" for number in range(1, len(others) + 1)]
    group = Group(others, first, work, labels, key=key, seed=seed)
    found = _settings(method, dict(settings or {}), len(group.models), len(given))
    pieces = list(MergedTensor(method, group, found, work).pieces())
    return np.concatenate(pieces).reshape(group.shape) if pieces else np.empty(group.shape, work)


def _settings(method: Method, given: dict[str, Any], models: int, inputs: int) -> dict[str, Any]:
    counts = {"models": models, "inputs": inputs}
    found: dict[str, Any] = {}
    for name, parameter in method.parameters.items():
        if name not in given and parameter.is_required:
            raise ConfigError(f"{method.name} needs {name}", hint=f"give a number for {name}")
        value = given.pop(name, parameter.default)
        if parameter.scope != "shared":
            count = counts[parameter.scope]
            value = (value,) * count if not isinstance(value, Sequence) else tuple(value)
            if len(value) != count:
                raise ConfigError(
                    f"{len(value)} numbers for {name} of {count} models", hint="give one for each"
                )
        found[name] = value
    if given:
        raise ConfigError(
            f"{method.name} has no {', '.join(sorted(given))}",
            hint=f"it has {', '.join(method.parameters) or 'no parameters'}",
        )
    return found
