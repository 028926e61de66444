"""What there is to know of an adapter without its model: spectra, norms, what is wrong with it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path

import numpy as np

from entrenar_common.errors import ConfigError
from entrenar_common.progress import NullProgress, Progress
from entrenar_common.text import escape_controls
from entrenar_core.lora.algebra import (
    effective_rank,
    energy_rank,
    inner,
    norm,
    overlap,
    singular_values,
)
from entrenar_core.lora.base import Base
from entrenar_core.lora.changes import Weighted, changes
from entrenar_core.lora.stored import StoredAdapter, as_float32
from entrenar_core.lora.update import Update, row_pieces

_NUMBER = re.compile(r"(?:^|\.)(\d+)(?=\.)")


@dataclass(frozen=True)
class ModuleFacts:
    """One module's update ΔW = s·B·A. `kind` is its name without its block, which is `layer`.

    effective_rank: e to the entropy of the singular values; energy_rank: how many have 90 % of Σσ².
    norm: ‖ΔW‖; largest: σ₁; relative_norm: ‖ΔW‖/‖W‖, None without a base. zeros and not_finite
    count numbers of A and B; where some are not finite, what follows from them is None.
    """

    name: str
    kind: str
    layer: int | None
    rank: int
    scale: float
    outputs: int
    inputs: int
    parameters: int
    effective_rank: float | None
    energy_rank: int | None
    norm: float | None
    largest: float | None
    relative_norm: float | None
    zeros: int
    not_finite: int


@dataclass(frozen=True)
class WholeFacts:
    """A tensor that takes the place of the model's."""

    name: str
    shape: tuple[int, ...]
    parameters: int
    not_finite: int


@dataclass(frozen=True)
class Facts:
    """An adapter: its settings, its modules and whole tensors, the numbers in it, the bytes of its
    tensors, and where settings and tensors contradict each other."""

    path: str
    rank: int
    alpha: float
    scale: float
    kinds: tuple[str, ...]
    target_modules: str | tuple[str, ...]
    base_model: str | None
    parameters: int
    nbytes: int
    modules: tuple[ModuleFacts, ...]
    whole: tuple[WholeFacts, ...]
    contradictions: tuple[str, ...]

    @property
    def sparsity(self) -> float:
        """The share of zeros among the numbers of A and B."""
        total = sum(module.parameters for module in self.modules)
        return sum(module.zeros for module in self.modules) / total if total else 0.0

    @property
    def not_finite(self) -> int:
        """How many numbers are NaN or infinite."""
        return sum(part.not_finite for part in (*self.modules, *self.whole))


@dataclass(frozen=True)
class SharedModule:
    """Two updates of one module: the overlap of their outputs' and inputs' spaces, and the cosine
    of the angle between them."""

    name: str
    kind: str
    outputs: float
    inputs: float
    cosine: float


@dataclass(frozen=True)
class Comparison:
    """Two adapters: `cosine` of all shared modules as one vector, and the modules of one alone."""

    cosine: float
    shared: tuple[SharedModule, ...]
    only_first: tuple[str, ...]
    only_second: tuple[str, ...]


def facts(
    adapter: StoredAdapter, *, base: Path | None = None, progress: Progress | None = None
) -> Facts:
    """What there is to know of an adapter; with the model at `base`, norms relative to it.

    Raises ConfigError where it is an adapter of another model than `base`.
    """
    progress = progress or NullProgress()
    norms = {} if base is None else _norms(adapter, base, progress)
    progress.start("inspect", len(adapter.modules))
    modules = []
    for name in adapter.modules:
        modules.append(_module(adapter, name, norms.get(name)))
        progress.advance()
    progress.finish()
    config = adapter.config
    names = adapter.tensor_names()
    return Facts(
        path=str(adapter.path),
        rank=config.rank,
        alpha=config.alpha,
        scale=config.alpha / (config.rank**0.5 if config.use_rslora else config.rank),
        kinds=_kinds(adapter),
        target_modules=config.target_modules,
        base_model=adapter.settings.base_model,
        parameters=adapter.parameter_count(),
        nbytes=sum(int(adapter.info(name).nbytes) for name in names),
        modules=tuple(modules),
        whole=tuple(_whole(adapter, name) for name in sorted(adapter.whole)),
        contradictions=tuple(adapter.contradictions),
    )


def compare(one: StoredAdapter, other: StoredAdapter) -> Comparison:
    """What two adapters of one model have in common. Raises ConfigError for shapes that differ."""
    names = [name for name in one.modules if name in other.modules]
    shared, products, squares = [], 0.0, np.zeros(2)
    for name in names:
        first, second = _plain(one.update(name)), _plain(other.update(name))
        if first.shape != second.shape:
            raise ConfigError(
                f"{escape_controls(name)}: {list(first.shape)} in {one.path}, "
                f"{list(second.shape)} in {other.path}",
                hint="adapters of one model can be compared",
            )
        outputs, inputs = overlap(first, second)
        product = inner(first, second)
        sizes = [inner(update, update) for update in (first, second)]
        products, squares = products + product, squares + sizes
        together = float(np.sqrt(np.prod(np.maximum(sizes, 0))))
        kind, _ = split_name(name)
        shared.append(
            SharedModule(name, kind, outputs, inputs, product / together if together else 0.0)
        )
    size = float(np.sqrt(np.prod(np.maximum(squares, 0))))
    return Comparison(
        products / size if size else 0.0,
        tuple(shared),
        tuple(sorted(one.modules.keys() - other.modules.keys())),
        tuple(sorted(other.modules.keys() - one.modules.keys())),
    )


def split_name(module: str) -> tuple[str, int | None]:
    """A module's name without what comes before its block, and the number of the block.

    >>> split_name("model.layers.3.self_attn.q_proj"), split_name("lm_head")
    (('self_attn.q_proj', 3), ('lm_head', None))
    """
    found = _NUMBER.search(module)
    if found is None:
        return module, None
    return module[found.end() + 1 :], int(found[1])


def _kinds(adapter: StoredAdapter) -> tuple[str, ...]:
    """What it is besides plain LoRA, in words."""
    config = adapter.config
    named = {
        "rsLoRA": config.use_rslora,
        "DoRA": config.use_dora,
        "biases of B": config.lora_bias,
        f"biases ({config.bias})": config.bias != "none",
        "modules saved whole": bool(config.modules_to_save),
        f"begun as {config.init}": config.init not in ("default", "gaussian"),
    }
    return tuple(name for name, has in named.items() if has)


def _module(adapter: StoredAdapter, name: str, base_norm: float | None) -> ModuleFacts:
    about, update = adapter.modules[name], adapter.update(name)
    kind, layer = split_name(name)
    arrays = [update.a, update.b]
    bad = sum(_not_finite(adapter.read(stored)) for stored in about.parts.values())
    values = None if bad else singular_values(update)
    size = None if values is None else norm(values)
    return ModuleFacts(
        name=name,
        kind=kind,
        layer=layer,
        rank=update.rank,
        scale=update.scale,
        outputs=about.b_shape[0],
        inputs=about.a_shape[1],
        parameters=sum(array.size for array in arrays),
        effective_rank=None if values is None else effective_rank(values),
        energy_rank=None if values is None else energy_rank(values),
        norm=size,
        largest=None if values is None else float(values[0]),
        relative_norm=size / base_norm if size is not None and base_norm else None,
        zeros=sum(array.size - int(np.count_nonzero(array)) for array in arrays),
        not_finite=bad,
    )


def _whole(adapter: StoredAdapter, name: str) -> WholeFacts:
    array = adapter.whole_tensor(name)
    return WholeFacts(name, tuple(array.shape), prod(array.shape), _not_finite(array))


def _not_finite(array: np.ndarray) -> int:
    wide = as_float32(array)
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(wide.sum()):  # one element that is not finite makes the sum so
            return 0
    return wide.size - int(np.count_nonzero(np.isfinite(wide)))


def _plain(update: Update) -> Update:
    return replace(update, magnitude=None, bias=None)


def _norms(adapter: StoredAdapter, path: Path, progress: Progress) -> dict[str, float]:
    """‖W‖ of the base's weight of each module."""
    found: dict[str, float] = {}
    with Base(path) as base:
        plain: Sequence[Weighted] = [Weighted(adapter)]
        planned = [c for c in changes(base, plain).by_tensor.values() if c.modules]
        progress.start("read the base", len(planned))
        for change in planned:
            if not change.is_bias and change.source is not None:
                array = base.weights.read(change.source)
                squares = sum(
                    float(np.square(as_float32(array[part]), dtype=np.float64).sum())
                    for part in row_pieces(array)
                )
                found[change.modules[0][1]] = squares**0.5
                base.weights.release(change.source)
            progress.advance()
        progress.finish()
    return found
