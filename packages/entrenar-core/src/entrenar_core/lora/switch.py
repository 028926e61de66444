"""Which adapters of a model take part, fusing them into its weights, and taking them off."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from entrenar_common.errors import ConfigError
from entrenar_core.autograd import Parameter
from entrenar_core.lora.layer import Adapters
from entrenar_core.lora.places import adaptable
from entrenar_core.lora.update import Update, summed
from entrenar_core.nn import Embedding, Projection


def adapters_of(model: Any) -> Mapping[str, Any]:
    """The adapters of `model` by name, active or not."""
    return getattr(model, "adapters", {})


def active(model: Any) -> tuple[str, ...]:
    """The names of the adapters that take part."""
    return model.active_adapters


def activate(model: Any, *names: str) -> None:
    """Let the adapters of these names take part, all others not: none, one, or several whose
    updates add up, to the bit the same in whatever order they are named.

    Raises ConfigError for a name that the model has not, for adapters that train the same parameter
    whole, and while the model is fused.
    """
    every = adapters_of(model)
    _refuse_fused(model, "switch its adapters")
    for name in names:
        if name not in every:
            raise ConfigError(
                f"the model has no adapter {name!r}", hint=f"it has {', '.join(every) or 'none'}"
            )
    _refuse_both([every[name] for name in names])
    for adapter in every.values():
        for place in adapter.whole.values():
            place.take_back()
    for name in names:
        for place in every[name].whole.values():
            place.put()
    model.active_adapters = names
    _let_take_part(model)
    _say_whether_tied(model)


@contextmanager
def disabled(model: Any) -> Iterator[None]:
    """Inside, the model is what its base is without adapters: where one started as a part of the
    weights (PiSSA, OLoRA) or in few bits (LoftQ), without that part, or so."""
    names = active(model)
    activate(model)
    try:
        yield
    finally:
        activate(model, *names)


@dataclass
class _Fused:
    """What a module was: its weight's parameter where another took its place, what was added to it
    where not; its bias."""

    original: Parameter | None
    added: Update | None
    bias: Parameter | None


def fuse(model: Any, *, weights: Mapping[str, np.ndarray] | None = None) -> None:
    """Put the active adapters into the weights of `model`: it then computes the same without them.

    Weights that are held in fewer bits, or tied to another, are replaced by float32 ones of their
    own, others are changed where they are. `weights` has by the names of adapted modules what they
    get in the place of the sum, such as the numbers that it is stored as. Raises ConfigError where
    it is fused already, for a bias that the model has no place for, and for a module in `weights`
    that is not adapted; NumericsError for results that are not finite.
    """
    _refuse_fused(model, "fuse it again")
    updates, given = _fusible(model), dict(weights or {})
    if unknown := sorted(given.keys() - updates.keys()):
        raise ConfigError(
            f"no adapter works beside {unknown[0]}", hint="give weights of adapted modules only"
        )
    tied = _tied_ids(model)
    done: dict[str, _Fused] = {}
    for name, (module, update) in updates.items():
        tied_here = id(module.weight) in tied
        done[name] = _fuse(name, module, update, tied=tied_here, instead=given.get(name))
    for _, adapters in _adapted(model):
        adapters.active = ()
    model.fused = done
    _say_whether_tied(model)


def unfuse(model: Any) -> None:
    """Take the adapters out of the weights again, where they were fused into them.

    What was changed where it is comes back within a unit in the last place of the larger of before
    and after; everything else is what it was.
    """
    fused: Mapping[str, _Fused] = model.fused
    places = adaptable(model)
    for name, before in fused.items():
        module = places[name]
        if before.original is not None:
            module.weight = before.original
        else:
            assert before.added is not None
            weight = module.weight.data
            before.added.scaled(-1).merged(weight, out=weight, where=name)
        if isinstance(module, Projection):
            module.bias = before.bias
    model.fused = {}
    _let_take_part(model)
    for _, adapters in _adapted(model):
        for layer in adapters.members.values():
            layer.forget()
    _say_whether_tied(model)


def _let_take_part(model: Any) -> None:
    """Tell every module which adapters are active, in the order they were attached: a sum of
    float32 depends on the order of its parts, and must not on the order of the names."""
    names = [name for name in adapters_of(model) if name in active(model)]
    for _, adapters in _adapted(model):
        adapters.active = tuple(name for name in names if name in adapters.members)


def strip(model: Any) -> None:
    """Take all adapters off: `model` is what it was, frozen.

    Of a model that is fused, the weights are brought back first. Raises ConfigError for a base in
    few bits that LoftQ made, since what it lost is in the adapter.
    """
    if lost := [a.name for a in adapters_of(model).values() if a.config.init == "loftq"]:
        raise ConfigError(
            f"the adapter {lost[0]} has what the weights lost in few bits",
            hint="load the model again",
        )
    unfuse(model)
    activate(model)
    for adapter in reversed(list(adapters_of(model).values())):
        for name, first in adapter.started.items():
            weight = adaptable(model)[name].weight.data
            first.merged(weight, out=weight, where=name)
    for module in adaptable(model).values():
        module.adapters = None
    model.adapters = {}


def _fusible(model: Any) -> dict[str, tuple[Projection | Embedding, Update]]:
    """The modules with active adapters and what these do together, all checked."""
    found = {}
    for name, module in adaptable(model).items():
        if module.adapters is None or not module.adapters.active:
            continue
        update = summed([layer.update() for layer in module.adapters.working()])
        if update.bias is not None and getattr(module, "bias", None) is None:
            raise ConfigError(
                f"{name} has no bias that the adapter's could be added to",
                hint="use the model with its adapter, unfused",
            )
        found[name] = module, update
    return found


def _fuse(
    name: str,
    module: Projection | Embedding,
    update: Update,
    *,
    tied: bool,
    instead: np.ndarray | None,
) -> _Fused:
    weight = module.weight
    bias = module.bias if isinstance(module, Projection) else None
    here = isinstance(weight.data, np.ndarray) and weight.dtype.name in ("float32", "float64")
    if instead is None and here and not tied and update.magnitude is None:
        update.merged(weight.data, out=weight.data, where=name)
        before = _Fused(None, replace(update, bias=None), bias)
    else:
        whole = update.merged(weight.data, where=name) if instead is None else instead
        module.weight = Parameter(whole)
        module.weight.requires_grad = False
        before = _Fused(weight, None, bias)
    if update.bias is not None and isinstance(module, Projection) and bias is not None:
        module.bias = Parameter(bias.data + update.bias)
        module.bias.requires_grad = False
    return before


def _refuse_both(adapters: Sequence[Any]) -> None:
    """Raise ConfigError where two adapters have their own of the same parameter."""
    taken: dict[str, str] = {}
    for adapter in adapters:
        for parameter in adapter.whole:
            if taken.setdefault(parameter, adapter.name) != adapter.name:
                raise ConfigError(
                    f"adapters {taken[parameter]} and {adapter.name} both have their own "
                    f"{parameter}",
                    hint="let one of them take part",
                )


def _adapted(model: Any) -> Iterator[tuple[Projection | Embedding, Adapters]]:
    for module in adaptable(model).values():
        if module.adapters is not None:
            yield module, module.adapters


def _tied_ids(model: Any) -> set[int]:
    """The parameters that several modules share."""
    parameters = model.named_parameters()
    return {id(parameters[first]) for first in model.tied_names().values()}


def _say_whether_tied(model: Any) -> None:
    """Let the config say whether the output still shares the embeddings' weight."""
    if not hasattr(model, "lm_head"):
        return
    was = getattr(model, "tied_before_adapters", None)
    if was is None:
        was = model.tied_before_adapters = model.config.tie_word_embeddings
    if was:
        model.config = replace(model.config, tie_word_embeddings=bool(model.tied_names()))


def _refuse_fused(model: Any, what: str) -> None:
    if model.fused:
        raise ConfigError(
            f"the model is fused: cannot {what}", hint="take the adapters out: lora.unfuse(model)"
        )
