"""Several adapters as one, and one of another rank."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from entrenar_common.errors import ConfigError, UnsupportedError
from entrenar_common.progress import NullProgress, Progress
from entrenar_common.text import escape_controls
from entrenar_core.lora.algebra import energy_rank, singular_values, truncated
from entrenar_core.lora.changes import TAKES_OVER, Weighted
from entrenar_core.lora.combine import (
    Cut,
    Nearest,
    Options,
    combination,
    largest_rank,
    linear,
)
from entrenar_core.lora.config import LoraConfig
from entrenar_core.lora.peft_config import PeftConfig
from entrenar_core.lora.stored import StoredAdapter
from entrenar_core.lora.update import Update
from entrenar_core.lora.write import AdapterContent, content_of


@dataclass(frozen=True)
class Fitted:
    """What became of the update of one module: its rank, and ‖ΔW' − ΔW‖/‖ΔW‖ of what was wanted
    and what there is."""

    module: str
    rank: int
    error: float


def join(
    adapters: Sequence[Weighted],
    *,
    method: str = "linear",
    options: Options | None = None,
    progress: Progress | None = None,
) -> tuple[AdapterContent, list[Fitted]]:
    """One adapter of several, combined as `lora.combine` says, and how well each module fits.

    cat and, without a rank, linear keep every direction: the rank is the sum of the ranks. The
    others, and linear with a rank, keep `options.rank` directions, by default as many as the
    largest of the adapters. The scale is 1.

    Raises UnsupportedError for DoRA, which is no sum, and for whole tensors of more than one;
    ConfigError for adapters that are stored in two ways, and for options out of range.
    """
    options = options or Options()
    if method == "cat" and options.rank is not None:
        raise ConfigError("cat keeps all ranks", hint="leave the rank out, or use linear or svd")
    for weighted in adapters:
        _check_joins(weighted, adapters[0].adapter)
    whole = _whole(adapters)
    fit = _fit(method, adapters, options)
    has_biases = any(weighted.adapter.config.lora_bias for weighted in adapters)
    progress, names = progress or NullProgress(), _modules(adapters)
    updates: dict[str, Update] = {}
    fitted = []
    progress.start("combine", len(names))
    for module in names:
        parts = [(w, w.adapter.update(module)) for w in adapters if module in w.adapter.modules]
        update, error = fit(module, parts)
        if has_biases and update.bias is None and not update.embedding:
            update = replace(update, bias=np.zeros(len(update.b), np.float32))
        updates[module] = update
        fitted.append(Fitted(module, updates[module].rank, error))
        progress.advance()
    progress.finish()
    settings = _settings(adapters, updates)
    return content_of(settings, updates, whole), fitted


def resize(
    adapter: StoredAdapter,
    *,
    rank: int | None = None,
    energy: float | None = None,
    progress: Progress | None = None,
) -> tuple[AdapterContent, list[Fitted]]:
    """An adapter of at most `rank` in each module, or of the least rank that has the share `energy`
    of Σσ². The nearest of its rank, so what is lost is what the error says. The scale is 1.

    With DoRA the lengths of rows stay as they are. Raises ConfigError for a rank that none exceeds.
    """
    _check_start(adapter)
    if (rank is None) == (energy is None):
        raise ConfigError("a rank or a share of the energy", hint="give one of the two")
    if energy is not None and not 0 < energy <= 1:
        raise ConfigError(f"an energy of {energy:g}", hint="give a share above 0, at most 1")
    largest = largest_rank([Weighted(adapter)])
    if rank is not None and not 1 <= rank < largest:
        raise ConfigError(
            f"{adapter.path}: has rank {largest}, and {rank} is asked for",
            hint="give a smaller rank, from 1 on: a larger one would add nothing",
        )
    progress = progress or NullProgress()
    updates: dict[str, Update] = {}
    fitted = []
    progress.start("resize", len(adapter.modules))
    for module in adapter.modules:
        update = adapter.update(module)
        wanted = rank or max(1, energy_rank(singular_values(update), energy or 1.0))
        updates[module], error = truncated(update, wanted)
        fitted.append(Fitted(module, updates[module].rank, error))
        progress.advance()
    progress.finish()
    settings = _settings([Weighted(adapter)], updates)
    whole = {name: adapter.whole_tensor(name) for name in adapter.whole}
    return content_of(settings, updates, whole), fitted


def as_content(adapter: StoredAdapter) -> AdapterContent:
    """An adapter as it is stored, in memory."""
    return AdapterContent(
        adapter.settings, {name: adapter.read(name) for name in adapter.tensor_names()}
    )


def _check_start(adapter: StoredAdapter) -> None:
    if adapter.config.init in TAKES_OVER:
        raise UnsupportedError(
            f"{adapter.path}: began as {adapter.config.init}, so it is one of a base that lost a "
            "part of its weights",
            hint="save it in PEFT with path_initial_model_for_weight_conversion",
        )


def _check_joins(weighted: Weighted, first: StoredAdapter) -> None:
    adapter = weighted.adapter
    _check_start(adapter)
    if adapter.config.use_dora:
        raise UnsupportedError(
            f"{adapter.path}: DoRA scales whole rows of the weight, which is no sum",
            hint="merge it into its base, or resize it alone",
        )
    for module in adapter.modules.keys() & first.modules.keys():
        ours, its = adapter.modules[module], first.modules[module]
        if (ours.b_shape[0], ours.a_shape[1]) != (its.b_shape[0], its.a_shape[1]):
            raise ConfigError(
                f"{escape_controls(module)}: {ours.b_shape[0]} by {ours.a_shape[1]} in "
                f"{adapter.path}, {its.b_shape[0]} by {its.a_shape[1]} in {first.path}",
                hint="adapters of one model can be combined",
            )
    if adapter.settings.fan_in_fan_out != first.settings.fan_in_fan_out:
        raise ConfigError(
            f"{adapter.path} and {first.path} differ in fan_in_fan_out",
            hint="adapters of one model can be combined",
        )


def _whole(adapters: Sequence[Weighted]) -> dict[str, np.ndarray]:
    having = [weighted for weighted in adapters if weighted.adapter.whole]
    if not having:
        return {}
    if len(having) > 1 or having[0].factor != 1:
        name = escape_controls(min(having[0].adapter.whole))
        raise UnsupportedError(
            f"{having[0].adapter.path}: replaces {name} and others by whole tensors, which have no "
            "sum with another adapter's, and no multiple",
            hint="give the only adapter that has such tensors a weight of 1",
        )
    adapter = having[0].adapter
    return {name: adapter.whole_tensor(name) for name in adapter.whole}


def _modules(adapters: Sequence[Weighted]) -> list[str]:
    return sorted({module for w in adapters for module in w.adapter.modules})


Fit = Callable[[str, Sequence[tuple[Weighted, Update]]], tuple[Update, float]]


def _fit(method: str, adapters: Sequence[Weighted], options: Options) -> Fit:
    combine = combination(method, adapters, options)
    if method == "cat" or (method == "linear" and options.rank is None):
        return lambda module, parts: (linear(module, parts), 0.0)
    if options.rank is None:  # an adapter has one
        combine = combination(method, adapters, options._replace(rank=largest_rank(adapters)))
    assert isinstance(combine, Cut | Nearest)

    def fit(module: str, parts: Sequence[tuple[Weighted, Update]]) -> tuple[Update, float]:
        return combine(module, parts), combine.errors[module]

    return fit


def _settings(adapters: Sequence[Weighted], updates: Mapping[str, Update]) -> PeftConfig:
    """The settings of what is made: those that all share, a scale of 1, and the modules."""
    first, configs = adapters[0].adapter.settings, [w.adapter.config for w in adapters]
    ranks = [update.rank for update in updates.values()]
    rank = max(ranks, key=ranks.count, default=1)
    having = next((w.adapter.config for w in adapters if w.adapter.whole), configs[0])
    lora = LoraConfig(
        rank=rank,
        alpha=rank,
        target_modules=_targets(configs, updates),
        dropout=first.lora.dropout,
        use_dora=first.lora.use_dora,
        lora_bias=any(config.lora_bias for config in configs),
        bias=having.bias,
        modules_to_save=having.modules_to_save,
    )
    return replace(first, lora=lora)


def _targets(configs: Sequence[LoraConfig], updates: Mapping[str, Update]) -> tuple[str, ...]:
    """Names that mean just the modules: those of the configs where each is a list, else all."""
    chosen: set[str] = set()
    for config in configs:
        listed = isinstance(config.target_modules, tuple) and not config.exclude_modules
        if not listed or config.layers_to_transform is not None:
            return tuple(updates)
        chosen.update(config.target_modules)
    return tuple(sorted(chosen))
