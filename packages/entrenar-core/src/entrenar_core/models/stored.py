"""A model as it lies on a disk: known by its shapes, its weights read one at a time."""

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from entrenar_common.errors import ConfigError
from entrenar_common.text import escape_controls
from entrenar_core.io.closing import Closing
from entrenar_core.kernels import Held
from entrenar_core.models.architectures import model_class
from entrenar_core.models.source import Source, Weights
from entrenar_core.nn import shapes_only

SHOWN = 10
"""At most so many tensors are listed in an error."""


@dataclass(frozen=True)
class Misfit:
    """A tensor in which the weights contradict the config.

    name: the parameter's; stored: the tensor's name in the file, None where there is none; wanted:
    the shape that follows from the config, None where it has no such parameter; found: the shape
    that the file has, None where the tensor is missing; tied: whether it is another name of a
    parameter that is there, with other values.
    """

    name: str
    stored: str | None
    wanted: tuple[int, ...] | None
    found: tuple[int, ...] | None
    tied: bool = False

    def __str__(self) -> str:
        if self.found is None:
            return f"{self.name}: missing, wanted {self.wanted}"
        if self.wanted is None:
            return f"{escape_controls(self.stored or self.name)}: not part of this architecture"
        return f"{self.name}: wanted {self.wanted}, found {self.found}"


class StoredModel(Closing):
    """A model on disk, in a Hugging Face folder or a GGUF file, checked against its config.

    `model` has the shapes of its parameters and no memory for them; `read` gives the values of one.
    `missing` names the parameters of the head where the checkpoint has none, which is an error
    unless `head_may_miss`. `source` is where its config and weights come from, where that is not
    what lies at `path`. `misfits` are the tensors in which the two contradict each other: an error,
    unless `tolerant`.

    Raises ConfigError when the tensors and the config contradict each other, and what opening
    either raises.
    """

    def __init__(
        self,
        path: Path,
        *,
        head: str | None,
        dtype: str = "float32",
        head_may_miss: bool = False,
        source: Source | None = None,
        tolerant: bool = False,
    ) -> None:
        self.path = path
        self._source = source or Source(path)
        try:
            kind = model_class(self._source.raw, head)
            with shapes_only():
                self.model = kind(kind.Config.from_hf(self._source.raw), dtype=dtype)
            names = kind.sanitize(self._source.weights.names())
            self._source.prepare(self.model, names)
            tied = self.model.tied_names()
            self._stored = _untied(names, tied, self._source.weights)
            parameters = self.model.named_parameters()
            self.missing: tuple[str, ...] = ()
            if head_may_miss:
                known = self._stored
                self.missing = tuple(
                    n for n in parameters if n not in known and self.model.is_of_head(n)
                )
            self.misfits = _misfits(
                parameters, self._stored, self.missing, set(tied), self._source.weights
            )
            if self.misfits and not tolerant:
                raise self._refused()
        except BaseException:
            self.close()
            raise

    def _refused(self) -> ConfigError:
        return ConfigError(
            f"{self.path}: the weights contradict config.json in {len(self.misfits)} tensors",
            details=_shortened(map(str, self.misfits)),
            hint="config.json and the weights must come from the same model",
        )

    def read(self, name: str) -> np.ndarray:
        """The values of a parameter as they are stored; floats where they are stored in blocks."""
        return self._source.weights.read(self._stored[name])

    def stored_as(self, name: str) -> str:
        """What a parameter's elements are stored as, such as F16, or its blocks, such as q4_k."""
        return str(self._source.weights.info(self._stored[name]).dtype)

    def held(self, name: str) -> Held | None:
        """A matrix as it is stored, where that is in few bits; None elsewhere."""
        return self._source.weights.held(self._stored[name])

    def release(self, name: str) -> None:
        """Lets the kernel drop the pages of a parameter that was read."""
        self._source.weights.release(self._stored[name])

    def close(self) -> None:
        """Closes the files; arrays that were read stay valid."""
        self._source.close()


def _untied(names: dict[str, str], tied: Mapping[str, str], weights: Weights) -> dict[str, str]:
    """`names` without the further names of tied parameters, which a file may use instead of the
    first one, or beside it where both hold the same."""
    for further, first in tied.items():
        if further not in names:
            continue
        if first not in names:
            names[first] = names.pop(further)
        elif np.array_equal(weights.read(names[further]), weights.read(names[first])):
            del names[further]
    return names


def _misfits(
    parameters: Mapping[str, Any],
    names: Mapping[str, str],
    fresh: tuple[str, ...],
    tied: Set[str],
    weights: Weights,
) -> list[Misfit]:
    """What is missing, then what is there and does not fit."""
    problems = [
        Misfit(name, None, tuple(parameter.shape), None)
        for name, parameter in parameters.items()
        if name not in names and name not in fresh
    ]
    for name, stored in names.items():
        shape = tuple(weights.info(stored).shape)
        known = parameters.get(name)
        wanted = None if known is None else tuple(known.shape)
        if shape != wanted:
            problems.append(Misfit(name, stored, wanted, shape, tied=name in tied))
    return problems


def _shortened(lines: Iterable[str]) -> list[str]:
    lines = list(lines)
    more = [f"and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
    return lines[:SHOWN] + more
