"""What differs between two models: their tensors, configs, metadata and, if asked for, numbers."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from entrenar_common.errors import UnsupportedError
from entrenar_common.progress import NullProgress, Progress
from entrenar_core.kernels import one_blas_thread
from entrenar_inspect.artifact import Artifact
from entrenar_inspect.compare_numbers import NumbersTotal, with_numbers
from entrenar_inspect.matching import Side, sides_of
from entrenar_inspect.tensor_pairs import CHANGES, SAME, TensorPair, pairs_of

ABOUT_FILES = {"_name_or_path", "transformers_version", "dtype", "torch_dtype"}
"""Keys of configs that say nothing of what the model computes, or what the tensors say better."""

LONG = 16
"""Values of metadata that have more elements are told by their number."""


@dataclass(frozen=True)
class Model:
    """One of the two: what it is, and its tensors, parameters and bytes."""

    spec: str
    kind: str
    tensors: int
    parameters: int
    nbytes: int


@dataclass(frozen=True)
class KeyChange:
    """A key whose values differ; a side that does not have it has None."""

    key: str
    a: Any
    b: Any


@dataclass(frozen=True)
class Comparison:
    """All that differs between `a` and `b`.

    notes: what was done to find which tensor is which; config: keys that differ, without those
    about files alone; metadata: keys of the weights' files that differ, which make no difference to
    `same`; numbers: None where they were not asked for.
    """

    a: Model
    b: Model
    same: bool
    notes: tuple[str, ...]
    counts: Mapping[str, int]
    tensors: tuple[TensorPair, ...]
    config: tuple[KeyChange, ...]
    metadata: tuple[KeyChange, ...]
    tolerance: float | None
    numbers: NumbersTotal | None


def compare(
    a: Artifact,
    b: Artifact,
    *,
    values: bool = False,
    tolerance: float | None = None,
    name_filter: str | None = None,
    progress: Progress | None = None,
) -> Comparison:
    """What differs between two models, by their headers, or with `values` by their numbers too.

    tolerance: tensors whose relative difference is not above it count as the same; name_filter:
    the names of the tensors to look at, with wildcards; configs are left out then.

    Raises UnsupportedError for the values of a model on the hub, NotFoundError for a filter that
    no name fits.
    """
    if values:
        _check_local(a, b)
    one, other, notes = sides_of(a, b)
    try:
        pairs = pairs_of(one.entries, other.entries, name_filter)
        numbers = None
        if values:
            # numpy's part of the work is small steps, for which threads take longer
            with one_blas_thread():
                pairs, numbers = with_numbers(
                    pairs, one, other, tolerance=tolerance, progress=progress or NullProgress()
                )
        config = [] if name_filter else _config_changes(one, other)
        metadata = _key_changes(a.metadata, b.metadata) if a.kind == b.kind else []
    finally:
        one.close()
        other.close()
    counts = {change: sum(p.change == change for p in pairs) for change in CHANGES}
    return Comparison(
        _model(a), _model(b), counts[SAME] == len(pairs) and not config, tuple(notes), counts,
        tuple(pairs), tuple(config), tuple(metadata), tolerance, numbers,
    )  # fmt: skip


def _check_local(*artifacts: Artifact) -> None:
    for artifact in artifacts:
        if artifact.is_remote:
            raise UnsupportedError(
                f"{artifact.spec}: only headers of models on the hub are read, no values",
                hint="leave out --values, or fetch the model and give its folder",
            )


def _model(artifact: Artifact) -> Model:
    entries = artifact.tensors.values()
    parameters = sum(entry.elements for entry in entries if entry.same_as is None)
    return Model(artifact.spec, artifact.kind, len(entries), parameters, artifact.nbytes)


def _config_changes(a: Side, b: Side) -> list[KeyChange]:
    """The keys of both configs that differ; of two kinds of files, those that both have."""
    one, other = ({k: v for k, v in s.config.items() if k not in ABOUT_FILES} for s in (a, b))
    if not one or not other:
        return []
    common = None if a.artifact.kind == b.artifact.kind else one.keys() & other.keys()
    changes = _key_changes(one, other)
    return changes if common is None else [each for each in changes if each.key in common]


def _key_changes(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[KeyChange]:
    keys = [*a, *(key for key in b if key not in a)]
    return [
        KeyChange(key, _short(a.get(key)), _short(b.get(key)))
        for key in keys
        if not _equal(a.get(key), b.get(key)) or (key in a) != (key in b)
    ]


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        return np.array_equal(a, b)
    return a == b


def _short(value: Any) -> Any:
    is_long = isinstance(value, list | tuple | np.ndarray) and len(value) > LONG
    return f"{len(value)} values" if is_long else value
