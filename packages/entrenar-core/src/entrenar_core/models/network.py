"""What all models have in common, and the decoders among them."""

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np

from entrenar_common.errors import ConfigError
from entrenar_common.text import escape_controls
from entrenar_core.autograd import Parameter, Tensor, ops
from entrenar_core.models.cache import KVCache
from entrenar_core.models.features import Features, Selected, Wanted, all_features, everything
from entrenar_core.models.forward import Forward, as_mask, check_ids, starts_of
from entrenar_core.nn import Embedding, Linear, Module


class Network(Module, ABC):
    """A model with its config.

    Subclasses are made with `(config, *, dtype="float32")` and their weights are uninitialised
    until they are loaded or drawn (`models.load`, `models.from_config`).
    """

    Config: ClassVar[type]
    hf_class: ClassVar[str]
    """Its name in `architectures` of a `config.json`."""
    blocks: ClassVar[str]
    """The name of the list of blocks, such as `model.layers`."""
    head_parameters: ClassVar[tuple[str, ...]] = ()
    """How the names begin of what a new head draws where a checkpoint has no head."""

    config: Any
    recompute: bool = False
    """Compute the activations of blocks again on the way back instead of keeping them."""
    initialised: tuple[str, ...] = ()
    """Parameters that the checkpoint did not have and that were drawn when it was loaded."""
    active_adapters: tuple[str, ...] = ()
    """The names of the adapters that take part in what it computes: see `lora`."""
    fused: Mapping[str, Any] = MappingProxyType({})
    """What their adapters were put into the weights of, by the names of the modules."""

    @property
    def dtype(self) -> np.dtype:
        """The type of its arithmetic, which matrices held in 16 bits do not change."""
        kept = next(iter(self.named_parameters().values())).dtype
        return np.dtype(np.float64 if kept == np.float64 else np.float32)

    def base_parameters(self) -> dict[str, Parameter]:
        """The parameters that belong in a checkpoint of the model: without those of adapters."""
        named = self.named_parameters().items()
        return {name: parameter for name, parameter in named if ".adapters." not in name}

    def initial_std(self, name: str) -> float:
        """The spread of the first weights of the matrix called `name`."""
        del name
        return self.config.initializer_range

    def is_of_head(self, name: str) -> bool:
        """Whether the parameter called `name` is drawn for a new head."""
        return name.startswith(self.head_parameters)

    def config_with_layers(self, layers: tuple[int, ...]) -> Any:
        """The config of a copy that has only the given layers."""
        return dataclasses.replace(self.config, num_hidden_layers=len(layers))

    def first_weights(self) -> None:
        """Called when all weights were drawn: set those that do not start at random."""

    def prepare(self, folder: Path, names: dict[str, str]) -> None:
        """Called before the weights in `folder` are read: adapt to what there is. `names`, from
        `sanitize`, may be changed."""

    def follow(self, other: Any) -> None:
        """Take over from `other`, a model of this class, what its config does not say."""

    def extra_files(self) -> dict[str, Any]:
        """JSON files by name that `save` writes besides those of every model."""
        return {}

    @classmethod
    def sanitize(cls, names: Iterable[str]) -> dict[str, str]:
        """Our name of every tensor in a checkpoint → its name there; see `renamed`."""
        return renamed(names, lambda name: name)


def renamed(names: Iterable[str], rule: Callable[[str], str | None]) -> dict[str, str]:
    """`rule(name)` → name for all `names` in a checkpoint; None from the rule leaves one out.

    Raises ConfigError when two tensors would get one name.
    """
    found: dict[str, str] = {}
    for name in names:
        ours = rule(name)
        if ours is None:
            continue
        if ours in found:
            raise ConfigError(
                f"{escape_controls(found[ours])} and {escape_controls(name)} are both the "
                f"parameter {escape_controls(ours)}",
                hint="the checkpoint holds one tensor under an old and under a new name",
            )
        found[ours] = name
    return found


class Decoder(Network):
    """A stack of causal blocks: ids (B, T) → hidden states (B, T, hidden_size).

    Everywhere `mask` (B, S) says with 1 and 0 which positions count, the ones in `cache` included,
    and `positions` (B, T) where each id stands, by default behind what the cache holds. With
    `documents` (B, T) of integers, those of one document equal, a row is read as if each of its
    documents were alone: an id sees its own document only, and its positions start anew at 0.
    """

    foreign: ClassVar[tuple[str, ...]]
    """The starts of the names of tensors of other heads, which a checkpoint may have besides."""

    @abstractmethod
    def backbone(self, ids: np.ndarray, positions: np.ndarray | None, forward: Forward) -> Tensor:
        """Embedding, blocks and final norm."""

    def hidden(
        self,
        ids: np.ndarray,
        mask: np.ndarray | None = None,
        *,
        cache: KVCache | None = None,
        positions: np.ndarray | None = None,
        documents: np.ndarray | None = None,
    ) -> Tensor:
        """The normalised last hidden states (B, T, hidden_size), which the head is applied to.

        The losses over a large vocabulary start here. With a `cache`, ids continue what it holds.
        Raises ConfigError for `documents` together with a cache or with positions.
        """
        check_ids(ids)
        if documents is not None and not (cache is None and positions is None):
            raise ConfigError(
                f"documents together with {'positions' if cache is None else 'a cache'}",
                hint="documents say themselves at which positions their ids stand; continue one "
                "document in each row",
            )
        start = 0 if cache is None else cache.length
        counted = as_mask(mask, len(ids), start + ids.shape[1])
        return self._run(ids, positions, documents, Forward(mask=counted, cache=cache))

    def features(
        self,
        ids: np.ndarray,
        mask: np.ndarray | None = None,
        *,
        attentions: bool = True,
        documents: np.ndarray | None = None,
    ) -> Features:
        """Every hidden state and, if asked for, every attention map of a pass over `ids`."""
        wanted = everything(self.config.num_hidden_layers, heads=attentions)
        return all_features(self.select_features(ids, wanted, mask, documents=documents), mask)

    def select_features(
        self,
        ids: np.ndarray,
        wanted: Wanted,
        mask: np.ndarray | None = None,
        *,
        documents: np.ndarray | None = None,
    ) -> Selected:
        """The hidden states, queries, keys and values that are `wanted` of a pass over `ids`; the
        others are not kept. Raises ConfigError for layers that the model has not."""
        check_ids(ids)
        selected = Selected(wanted.checked(self.config.num_hidden_layers))
        forward = Forward(mask=as_mask(mask, *ids.shape), selected=selected)
        self._run(ids, None, documents, forward)
        return selected

    def _run(
        self,
        ids: np.ndarray,
        positions: np.ndarray | None,
        documents: np.ndarray | None,
        forward: Forward,
    ) -> Tensor:
        forward.first = starts_of(documents, ids)
        if forward.first is not None:
            positions = np.arange(ids.shape[1]) - forward.first
        return self.backbone(ids, positions, forward)


class LanguageModel(Decoder):
    """A decoder with a head that predicts the next id: ids (B, T) → logits (B, T, V)."""

    @property
    def position_limit(self) -> int | None:
        """How many positions the model can tell apart, None for any number."""
        return None

    @property
    @abstractmethod
    def input_embedding(self) -> Embedding:
        """The table with a row for each id."""

    @property
    @abstractmethod
    def output_weight(self) -> Tensor:
        """The projection (V, hidden_size) that makes logits of hidden states."""

    def extra_files(self) -> dict[str, Any]:
        """The tokens that a generation has to know."""
        special = ("bos_token_id", "eos_token_id", "pad_token_id")
        config = self.config.to_hf()
        known = {key: config[key] for key in special if config.get(key) is not None}
        return {"generation_config.json": known}

    def __call__(
        self,
        ids: np.ndarray,
        mask: np.ndarray | None = None,
        *,
        cache: KVCache | None = None,
        positions: np.ndarray | None = None,
        documents: np.ndarray | None = None,
    ) -> Tensor:
        hidden = self.hidden(ids, mask, cache=cache, positions=positions, documents=documents)
        return ops.linear(hidden, self.output_weight)


class SequenceClassifier(Decoder):
    """A decoder with a head on the last token that counts: ids (B, T) → logits (B, labels).

    That token is the last one that is not `pad_token_id`, as transformers has it; without a
    padding id, the last one of the mask.
    """

    score: Linear

    def __call__(self, ids: np.ndarray, mask: np.ndarray | None = None) -> Tensor:
        return self.from_hidden(self.hidden(ids, mask), ids, mask)

    def from_hidden(self, hidden: Tensor, ids: np.ndarray, mask: np.ndarray | None) -> Tensor:
        """The logits (B, labels) of the last hidden states (B, T, hidden) of `ids`."""
        batch, time = ids.shape
        counted = np.ones(ids.shape, bool) if mask is None else np.asarray(mask).astype(bool)
        if self.config.pad_token_id is not None:
            counted = ids != self.config.pad_token_id
        last = (np.arange(time) * counted).argmax(axis=1)  # (B,)
        rows = ops.reshape(hidden, (batch * time, -1))
        return self.score(ops.embedding(rows, np.arange(batch) * time + last))
