"""Adapters on a model: put there, saved, and put there again from a file.

adapter = adapt(model, LoraConfig(rank=16, alpha=32))
optimizer = AdamW(adapter.parameters())
...
adapter.save("folder")
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from entrenar_common.errors import ConfigError, UnsupportedError
from entrenar_core.autograd import Parameter
from entrenar_core.kernels import Held
from entrenar_core.lora.config import LoraConfig
from entrenar_core.lora.initial import FROM_WEIGHT, Start, random_start
from entrenar_core.lora.layer import Adapters, LowRank
from entrenar_core.lora.peft_config import PeftConfig
from entrenar_core.lora.places import Whole, adaptable, chosen, saved_names, task_of, wholes
from entrenar_core.lora.stored import StoredAdapter
from entrenar_core.lora.switch import activate, adapters_of
from entrenar_core.lora.update import Update
from entrenar_core.lora.write import content_of, write_adapter
from entrenar_core.nn import Embedding, Projection

DEFAULT = "default"
_NAME = re.compile(r"[\w-]+")


@dataclass(eq=False)
class Adapter:
    """An adapter on a model, made by `adapt` or `load_adapter`.

    `layers` has its part in each module by the module's name, `whole` the parameters that it trains
    whole by theirs, `started` the factors that took part of the weights over (PiSSA, OLoRA).
    """

    name: str
    model: Any
    config: LoraConfig
    layers: Mapping[str, LowRank]
    whole: Mapping[str, Whole]
    started: Mapping[str, Update] = field(default_factory=dict)

    def parameters(self) -> dict[str, Parameter]:
        """What it trains, by name; of an active adapter, as the model's `named_parameters` gives
        them."""
        found = {
            f"{module}.adapters.{self.name}.{name}": parameter
            for module, layer in self.layers.items()
            for name, parameter in layer.named_parameters().items()
        }
        return found | {name: place.own for name, place in self.whole.items()}

    def parameter_count(self) -> int:
        """How many numbers it trains."""
        return sum(parameter.size for parameter in self.parameters().values())

    def save(self, path: str | Path, *, base_model: str | None = None) -> list[Path]:
        """Write the adapter as PEFT does, and return the files; `write_adapter` says what `path`
        decides. `base_model` is the name or folder of the model that it is for.

        An adapter that started from the weights (PiSSA, OLoRA) is written for the model as it was
        before: of twice the rank, less the product that it started as. One of LoftQ is for the base
        in few bits, which `models.save` writes inside `with disabled(model):`.
        """
        updates = {name: self._saved(name) for name in self.layers}
        init = self.config.init if self.config.init == "gaussian" else "default"
        settings = PeftConfig(
            replace(self.config, init=init),
            base_model,
            task_of(self.model),
            any(update.transposed and not update.embedding for update in updates.values()),
        )
        tensors = {name: place.own.data for name, place in self.whole.items()}
        return write_adapter(path, content_of(settings, updates, tensors))

    def _saved(self, name: str) -> Update:
        update, first = self.layers[name].update(), self.started.get(name)
        if first is None:
            return update
        a = np.concatenate([update.a, first.a])
        return replace(update, a=a, b=np.concatenate([update.b, -first.b], axis=1))


def adapt(model: Any, config: LoraConfig, *, name: str = DEFAULT, seed: int = 0) -> Adapter:
    """Freeze `model`, and give it a new adapter that is trained instead, the only active one.

    The factors are a pure function of `seed`, the adapter's name and those of the modules. The
    model's weights stay as they are, but for the starts that take part of them over.

    Raises ConfigError for modules that are not there and a name that is taken, UnsupportedError for
    a start that needs the floats of a weight that is held in fewer bits.
    """
    _check_name(model, name)
    places = chosen(model, config)
    starts = {module: _start(places[module], config, module, name, seed) for module in places}
    return _attach(model, config, name, places, starts)


def load_adapter(
    model: Any,
    path: str | Path,
    *,
    name: str = DEFAULT,
    trainable: bool = False,
    alpha: float | None = None,
) -> Adapter:
    """Give `model` the adapter at `path`, as `StoredAdapter` opens it; it is the only active one.

    Raises ConfigError, naming what does not match, for an adapter of another model.
    """
    _check_name(model, name)
    with StoredAdapter(path, alpha=alpha) as stored:
        every = adaptable(model)
        parameters = model.named_parameters()
        stored.check_fits({n: p.shape for n, p in parameters.items()}, model.tied_names())
        config = replace(
            stored.config, target_modules=tuple(stored.modules), exclude_modules=(),
            layers_to_transform=None,
            # PEFT lists every name that a classifier's head could have
            modules_to_save=saved_names(model, stored.config),
        )  # fmt: skip
        places = {module: every[module] for module in stored.modules}
        starts = {module: _read(stored, module, places[module]) for module in places}
        adapter = _attach(model, config, name, places, starts)
        for parameter, place in adapter.whole.items():
            if parameter in stored.whole:
                place.own.data[...] = stored.whole_tensor(parameter)
    for parameter in adapter.parameters().values():
        parameter.requires_grad = trainable
    return adapter


def _check_name(model: Any, name: str) -> None:
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"an adapter cannot be called {name!r}", hint="use letters, digits, - and _"
        )
    if name in adapters_of(model):
        raise ConfigError(
            f"the model has an adapter {name!r} already",
            hint="give the new one another name, or take the old one off: lora.strip(model)",
        )


def _start(
    place: Projection | Embedding, config: LoraConfig, module: str, name: str, seed: int
) -> tuple[Update, Update | None]:
    """The update that a module starts with, and what of it the base's weight lost. The weight is
    changed here where the start takes part of it over."""
    transposed = _is_transposed(place)
    rows, columns = place.weight.shape
    shape = (columns, rows) if transposed else (rows, columns)
    rank, scale = config.rank_of(module), config.scale_of(module)
    embedding = isinstance(place, Embedding)
    if config.init in FROM_WEIGHT and not embedding:
        start = _from_weight(place, config, module, rank, scale)
    else:
        start = random_start(
            shape, rank, config=config, seed=seed, name=f"{name} {module}", embedding=embedding
        )
    dtype = _float_type(place)
    update = Update(
        start.a.astype(dtype), start.b.astype(dtype), scale,
        embedding=embedding, transposed=transposed,
    )  # fmt: skip
    taken = update if start.weight is not None and config.init != "loftq" else None
    if config.lora_bias and not embedding:
        update = replace(update, bias=np.zeros(shape[0], dtype))
    if config.use_dora:
        update = replace(update, magnitude=update.row_norms(place.weight.data).astype(dtype))
    return update, taken


def _from_weight(
    place: Projection | Embedding, config: LoraConfig, module: str, rank: int, scale: float
) -> Start:
    weight = place.weight.data
    if weight.dtype.name not in ("float32", "float64") or not isinstance(weight, np.ndarray):
        raise UnsupportedError(
            f"LoRA: {module} is held in fewer bits, and {config.init} starts from its floats",
            hint="load the model in float32",
        )
    if rank > min(weight.shape):
        raise ConfigError(
            f"LoRA: rank {rank} for {module}, which is {list(weight.shape)}",
            hint=f"{config.init} starts from singular vectors, of which it has {min(weight.shape)}",
        )
    transposed = _is_transposed(place)
    start = FROM_WEIGHT[config.init](weight.T if transposed else weight, rank, scale, config)
    if isinstance(start.weight, np.ndarray):
        weight[...] = start.weight.T if transposed else start.weight
    else:
        place.weight.data = Held(start.weight, transposed=transposed)
    return start


def _read(
    stored: StoredAdapter, module: str, place: Projection | Embedding
) -> tuple[Update, Update | None]:
    dtype = _float_type(place)
    update, taken = stored.update(module), None
    if stored.config.init in FROM_WEIGHT:  # PEFT's, for a base that lost what it started as
        config = replace(stored.config, use_dora=False, lora_bias=False)
        _, taken = _start(place, config, module, "", 0)
    bias = None if update.bias is None else update.bias.astype(dtype)
    magnitude = None if update.magnitude is None else update.magnitude.astype(dtype)
    update = replace(
        update, a=update.a.astype(dtype), b=update.b.astype(dtype), bias=bias, magnitude=magnitude,
        transposed=_is_transposed(place),
    )  # fmt: skip
    return update, taken


def _attach(
    model: Any,
    config: LoraConfig,
    name: str,
    places: Mapping[str, Projection | Embedding],
    starts: Mapping[str, tuple[Update, Update | None]],
) -> Adapter:
    whole = wholes(model, config, set(places))
    layers = {}
    for module, place in places.items():
        if place.adapters is None:
            place.adapters = Adapters()
        layer = LowRank(starts[module][0], dropout=config.dropout)
        place.adapters.members[name] = layers[module] = layer
    taken = {module: first for module, (_, first) in starts.items() if first is not None}
    adapter = Adapter(name, model, config, layers, whole, taken)
    model.freeze()
    model.adapters = {**adapters_of(model), name: adapter}
    activate(model, name)
    for parameter in adapter.parameters().values():
        parameter.requires_grad = True
    return adapter


def _is_transposed(place: Projection | Embedding) -> bool:
    """Whether the weight is stored (in, out)."""
    return isinstance(place, Embedding) or place.output_axis == 1


def _float_type(place: Projection | Embedding) -> np.dtype:
    return np.dtype(np.float64 if place.weight.dtype == np.float64 else np.float32)
