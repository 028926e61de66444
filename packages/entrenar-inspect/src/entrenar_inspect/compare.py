"""What differs between two models: their tensors, configs, metadata and, if asked for, numbers."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any

import numpy as np

from entrenar_common.errors import NotFoundError, UnsupportedError
from entrenar_common.progress import NullProgress, Progress
from entrenar_common.text import escape_controls
from entrenar_core.kernels import one_blas_thread
from entrenar_inspect.artifact import Artifact, Entry
from entrenar_inspect.differences import (
    Difference,
    Values,
    difference,
    kernel_for,
    ratio,
    same_bytes,
)
from entrenar_inspect.low_rank import LowRank, find_low_rank
from entrenar_inspect.matching import Side, sides_of
from entrenar_inspect.permuted import pattern_of

SAME, DIFFERS, RESHAPED, RETYPED = "same", "differs", "reshaped", "retyped"
ADDED, REMOVED = "added", "removed"
CHANGES = (SAME, DIFFERS, RESHAPED, RETYPED, ADDED, REMOVED)
"""What may have become of a tensor."""

ABOUT_FILES = {"_name_or_path", "transformers_version", "dtype", "torch_dtype"}
"""Keys of configs that say nothing of what the model computes, or what the tensors say better."""

LONG = 16
"""Values of metadata that have more elements are told by their number."""


@dataclass(frozen=True)
class Stored:
    """How a tensor is stored."""

    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class TensorPair:
    """One tensor on both sides; a side that does not have it is None.

    name: the one it is compared by; name_in_a, name_in_b: those of the files; change: one of
    CHANGES; difference: that of the numbers, None where they were not looked at.
    """

    name: str
    change: str
    a: Stored | None
    b: Stored | None
    name_in_a: str | None = None
    name_in_b: str | None = None
    difference: Difference | None = None


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
class ModuleTotal:
    """All tensors of one kind of module together, those that are identical left out of norms."""

    module: str
    tensors: int
    differ: int
    relative: float
    cosine: float | None


@dataclass(frozen=True)
class NumbersTotal:
    """Numbers of all tensors that both have: how many tensors, and of these the identical ones, the
    equal ones that are stored otherwise or within the tolerance, and the others; `relative` and
    `cosine` are over all elements of tensors that are not identical; `low_rank` what a merged
    adapter left."""

    tensors: int
    identical: int
    equal: int
    differ: int
    relative: float
    cosine: float | None
    modules: tuple[ModuleTotal, ...]
    low_rank: LowRank | None


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
        pairs = _pairs(one, other, name_filter)
        numbers = None
        if values:
            # numpy's part of the work is small steps, for which threads take longer
            with one_blas_thread():
                pairs, numbers = _with_numbers(
                    pairs, one, other, tolerance, progress or NullProgress()
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


# --- tensors by their headers --------------------------------------------------------------------


def _pairs(a: Side, b: Side, name_filter: str | None) -> list[TensorPair]:
    names = [*a.entries, *(name for name in b.entries if name not in a.entries)]
    pairs = [_pair(name, a.entries.get(name), b.entries.get(name)) for name in names]
    if name_filter is None:
        return pairs
    found = [pair for pair in pairs if _fits(pair, name_filter)]
    if not found:
        raise NotFoundError(
            f"no tensor of the two models fits '{escape_controls(name_filter)}'",
            hint="a filter is a whole name with wildcards, such as '*.q_proj.weight'",
        )
    return found


def _fits(pair: TensorPair, name_filter: str) -> bool:
    names = (pair.name, pair.name_in_a, pair.name_in_b)
    return any(name is not None and fnmatchcase(name, name_filter) for name in names)


def _pair(name: str, a: Entry | None, b: Entry | None) -> TensorPair:
    one, other = (None if e is None else Stored(e.dtype, e.shape) for e in (a, b))
    names = (None if e is None else e.name for e in (a, b))
    return TensorPair(name, _change(one, other), one, other, *names)


def _change(a: Stored | None, b: Stored | None) -> str:
    if a is None or b is None:
        return ADDED if a is None else REMOVED
    if a.shape != b.shape:
        return RESHAPED
    return SAME if a.dtype == b.dtype else RETYPED


# --- numbers -------------------------------------------------------------------------------------


def _with_numbers(
    pairs: Sequence[TensorPair], a: Side, b: Side, tolerance: float | None, progress: Progress
) -> tuple[list[TensorPair], NumbersTotal]:
    """The pairs with the differences of their numbers, and what these add up to."""
    comparable = [pair for pair in pairs if pair.change in (SAME, RETYPED)]
    kernel, piece = kernel_for(sum(2 * math.prod(p.a.shape) for p in comparable if p.a))
    progress.start("comparing", len(comparable))
    found: dict[str, TensorPair] = {}
    for pair in comparable:
        one, other = a.read(pair.name), b.read(pair.name)
        if same_bytes(one, other):
            difference_of = Difference(identical=True)
        else:
            difference_of = _difference(Values(one), Values(other), kernel, piece)
        found[pair.name] = _judged(pair, difference_of, tolerance)
        del one, other
        a.release(pair.name)
        b.release(pair.name)
        progress.advance()
    progress.finish()
    looked_at = list(found.values())
    low_rank = _low_rank(looked_at, a, b, progress)
    return [found.get(pair.name, pair) for pair in pairs], _total(looked_at, low_rank)


def _difference(a: Values, b: Values, kernel: Any, piece: int) -> Difference:
    try:
        found = difference(a, b, kernel, piece)
    except UnsupportedError as error:
        return Difference(
            False, math.inf, cosine=None, largest=math.inf, distance=math.inf, problem=str(error)
        )
    return replace(found, pattern=pattern_of(a, b, found))


def _judged(pair: TensorPair, found: Difference, tolerance: float | None) -> TensorPair:
    """The pair with its difference, and what that makes of the change."""
    change = pair.change
    if change == SAME and not found.equal:
        change = DIFFERS
    if tolerance is not None and found.relative <= tolerance and not found.unlike:
        change = SAME
    return replace(pair, change=change, difference=found)


def _low_rank(pairs: Sequence[TensorPair], a: Side, b: Side, progress: Progress) -> LowRank | None:
    changed = [
        (pair.name, pair.difference)
        for pair in pairs
        if pair.a and len(pair.a.shape) == 2 and pair.difference and _may_be_of_adapter(pair)
    ]
    if not changed:
        return None

    def opened(name: str) -> tuple[Values, Values]:
        return Values(a.read(name)), Values(b.read(name))

    def looked(name: str) -> None:
        a.release(name)
        b.release(name)
        progress.advance()

    progress.start("rank of the changes", len(changed))
    found = find_low_rank(changed, opened, module_of=module_of, looked=looked)
    progress.finish()
    return found


def _may_be_of_adapter(pair: TensorPair) -> bool:
    found = pair.difference
    if found is None or found.equal or found.problem or found.sqnr_db is not None:
        return False
    return pair.a is not None and not pair.a.dtype.startswith(("I", "U", "BOOL"))


def module_of(name: str) -> str:
    """The kind of module that has a tensor.

    >>> module_of("model.layers.3.self_attn.q_proj.weight"), module_of("lm_head.weight")
    ('q_proj', 'lm_head')
    """
    parts = [part for part in name.split(".") if not part.isdigit()]
    return parts[-2] if len(parts) > 1 else name


def _total(pairs: Sequence[TensorPair], low_rank: LowRank | None) -> NumbersTotal:
    found = [pair.difference for pair in pairs if pair.difference is not None]
    identical = sum(each.identical for each in found)
    differ = sum(pair.change != SAME and not d.equal for pair, d in zip(pairs, found, strict=True))
    modules: dict[str, list[TensorPair]] = {}
    for pair in pairs:
        modules.setdefault(module_of(pair.name), []).append(pair)
    by_module = tuple(_module(name, each) for name, each in modules.items())
    return NumbersTotal(
        len(pairs), identical, len(pairs) - identical - differ, differ, *_together(found),
        by_module, low_rank,
    )  # fmt: skip


def _module(name: str, pairs: Iterable[TensorPair]) -> ModuleTotal:
    found = [pair.difference for pair in pairs if pair.difference is not None]
    differ = sum(not each.equal for each in found)
    return ModuleTotal(name, len(found), differ, *_together(found))


def _together(found: Iterable[Difference]) -> tuple[float, float | None]:
    """The relative difference and the cosine of all numbers together that are not identical."""
    looked_at = [each for each in found if each.norm_a is not None and each.norm_b is not None]
    if not looked_at:
        return 0.0, 1.0
    norm_a, norm_b, distance = (
        math.hypot(*(getattr(each, name) for each in looked_at))
        for name in ("norm_a", "norm_b", "distance")
    )
    product = sum((d.cosine or 0.0) * (d.norm_a or 0.0) * (d.norm_b or 0.0) for d in looked_at)
    return ratio(distance, norm_a), product / (norm_a * norm_b) if norm_a and norm_b else None


# --- keys ----------------------------------------------------------------------------------------


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
