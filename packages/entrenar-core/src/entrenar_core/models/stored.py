"""A model as it lies on a disk: known by its shapes, its weights read one at a time."""

from collections.abc import Iterable, Mapping
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


class StoredModel(Closing):
    """A model on disk, in a Hugging Face folder or a GGUF file, checked against its config.

    `model` has the shapes of its parameters and no memory for them; `read` gives the values of one.
    `missing` names the parameters of the head where the checkpoint has none, which is an error
    unless `head_may_miss`. `source` is where its config and weights come from, where that is not
    what lies at `path`.

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
    ) -> None:
        self.path = path
        self._source = source or Source(path)
        try:
            kind = model_class(self._source.raw, head)
            with shapes_only():
                self.model = kind(kind.Config.from_hf(self._source.raw), dtype=dtype)
            names = kind.sanitize(self._source.weights.names())
            self._source.prepare(self.model, names)
            self._stored = _untied(names, self.model.tied_names(), self._source.weights)
            parameters = self.model.named_parameters()
            self.missing: tuple[str, ...] = ()
            if head_may_miss:
                known = self._stored
                self.missing = tuple(
                    n for n in parameters if n not in known and self.model.is_of_head(n)
                )
            _check_shapes(path, parameters, self._stored, self.missing, self._source.weights)
        except BaseException:
            self.close()
            raise

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


def _check_shapes(
    folder: Path,
    parameters: Mapping[str, Any],
    names: Mapping[str, str],
    fresh: tuple[str, ...],
    weights: Weights,
) -> None:
    problems = [
        f"{name}: missing, wanted {tuple(parameter.shape)}"
        for name, parameter in parameters.items()
        if name not in names and name not in fresh
    ]
    for name, stored in names.items():
        shape = tuple(weights.info(stored).shape)
        if name not in parameters:
            problems.append(f"{escape_controls(stored)}: not part of this architecture")
        elif shape != tuple(parameters[name].shape):
            problems.append(f"{name}: wanted {tuple(parameters[name].shape)}, found {shape}")
    if problems:
        raise ConfigError(
            f"{folder}: the weights contradict config.json in {len(problems)} tensors",
            details=_shortened(problems),
            hint="config.json and the weights must come from the same model",
        )


def _shortened(lines: Iterable[str]) -> list[str]:
    lines = list(lines)
    more = [f"and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
    return lines[:SHOWN] + more
