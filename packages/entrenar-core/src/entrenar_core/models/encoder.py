"""Encoders: every position attends to every other, and a head makes something of the result."""

from abc import abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from entrenar_common.errors import ConfigError, ShapeError
from entrenar_core.autograd import Tensor
from entrenar_core.models.features import Features, Selected, Wanted, all_features, everything
from entrenar_core.models.forward import Forward, as_mask, check_ids, run_blocks
from entrenar_core.models.network import Network, renamed
from entrenar_core.models.sentence import SentenceSettings

BUFFERS = (".position_ids", ".token_type_ids")
"""Ends of the names of tensors that old checkpoints carry but that follow from the config."""

OLD_NAMES = {".gamma": ".weight", ".beta": ".bias"}


class Encoder(Network):
    """A bidirectional encoder with pooling: ids (B, T) → sentence embeddings (B, D).

    Everywhere `mask` (B, T) says with 1 and 0 which positions count, all by default, and
    `token_type_ids` (B, T) to which segment they belong, 0 by default.
    """

    prefix: ClassVar[str]
    """What stands before its tensors in the checkpoint of a model with a head, such as `bert.`"""
    parts: ClassVar[tuple[str, ...]]
    """The starts of the names of its own tensors."""
    foreign: ClassVar[tuple[str, ...]]
    """The starts of the names of tensors of heads, which a checkpoint may have besides."""

    embeddings: Any
    sentence: SentenceSettings

    @abstractmethod
    def embed(self, ids: np.ndarray, token_type_ids: np.ndarray | None) -> Tensor:
        """What the first block takes: (B, T, D)."""

    @abstractmethod
    def layers(self) -> list[Any]:
        """The blocks."""

    def __call__(
        self,
        ids: np.ndarray,
        mask: np.ndarray | None = None,
        token_type_ids: np.ndarray | None = None,
    ) -> Tensor:
        return self.from_hidden(self.hidden(ids, mask, token_type_ids), ids, mask)

    def from_hidden(self, hidden: Tensor, ids: np.ndarray, mask: np.ndarray | None) -> Tensor:
        """The sentence embeddings (B, D) of the last hidden states (B, T, D) of `ids`."""
        del ids
        return self.sentence.pooling(hidden, mask)

    def hidden(
        self,
        ids: np.ndarray,
        mask: np.ndarray | None = None,
        token_type_ids: np.ndarray | None = None,
        *,
        documents: np.ndarray | None = None,
    ) -> Tensor:
        """The last hidden states (B, T, D). Raises ConfigError for `documents` to keep apart."""
        _check_documents(documents)
        return self._run(ids, token_type_ids, Forward(mask=as_mask(mask, *_checked(ids).shape)))

    def features(
        self,
        ids: np.ndarray,
        mask: np.ndarray | None = None,
        token_type_ids: np.ndarray | None = None,
        *,
        attentions: bool = True,
    ) -> Features:
        """Every hidden state and, if asked for, every attention map of a pass over `ids`."""
        wanted = everything(self.config.num_hidden_layers, heads=attentions)
        return all_features(self.select_features(ids, wanted, mask, token_type_ids), mask)

    def select_features(
        self,
        ids: np.ndarray,
        wanted: Wanted,
        mask: np.ndarray | None = None,
        token_type_ids: np.ndarray | None = None,
        *,
        documents: np.ndarray | None = None,
    ) -> Selected:
        """The hidden states, queries, keys and values that are `wanted` of a pass over `ids`; the
        others are not kept. Raises ConfigError for layers that the model has not, and for
        `documents` to keep apart."""
        _check_documents(documents)
        counted = as_mask(mask, *_checked(ids).shape)
        selected = Selected(wanted.checked(self.config.num_hidden_layers))
        self._run(ids, token_type_ids, Forward(mask=counted, selected=selected))
        return selected

    def _run(self, ids: np.ndarray, types: np.ndarray | None, forward: Forward) -> Tensor:
        x = self.embed(ids, types)
        return run_blocks(self.layers(), x, forward, recompute=self.recompute)

    def first_weights(self) -> None:
        """The vector of padding starts as zeros: it is not trained."""
        padding = self.config.pad_token_id
        if padding is not None:
            self.embeddings.word_embeddings.weight.data[padding] = 0

    def prepare(self, folder: Path, names: dict[str, str]) -> None:
        """Take the pooling from the files of a sentence-transformers folder."""
        del names
        self.sentence = SentenceSettings.read(folder)

    def follow(self, other: Any) -> None:
        """Pool as `other` does."""
        self.sentence = other.sentence

    def extra_files(self) -> dict[str, Any]:
        """The files that tell sentence-transformers, and `load`, about the pooling."""
        return self.sentence.to_files(self.config.hidden_size)

    @classmethod
    def sanitize(  # pyright: ignore[reportIncompatibleMethodOverride]
        cls, names: Iterable[str]
    ) -> dict[str, str]:
        """The encoder's own tensors, without the prefix; those of heads are left out."""

        def rule(name: str) -> str | None:
            plain = _plain(name)
            if plain is None or plain.startswith(cls.foreign):
                return None
            return plain.removeprefix(cls.prefix)

        return renamed(names, rule)


class EncoderHead(Network):
    """A head on an encoder; its first attribute is the encoder, called by its `model_type`."""

    encoder_class: ClassVar[type[Encoder]]
    foreign: ClassVar[tuple[str, ...]]
    """The starts of the names of tensors of other heads, which a checkpoint may have besides."""

    @property
    def encoder(self) -> Any:
        """The encoder under the head."""
        return getattr(self, self.config.model_type)

    def features(
        self,
        ids: np.ndarray,
        mask: np.ndarray | None = None,
        token_type_ids: np.ndarray | None = None,
        *,
        attentions: bool = True,
    ) -> Features:
        """Every hidden state and, if asked for, every attention map of a pass over `ids`."""
        return self.encoder.features(ids, mask, token_type_ids, attentions=attentions)

    def select_features(
        self,
        ids: np.ndarray,
        wanted: Wanted,
        mask: np.ndarray | None = None,
        token_type_ids: np.ndarray | None = None,
        *,
        documents: np.ndarray | None = None,
    ) -> Selected:
        """What is `wanted` of the encoder's pass over `ids`: see there."""
        return self.encoder.select_features(ids, wanted, mask, token_type_ids, documents=documents)

    @property
    def recompute(self) -> bool:
        """Compute the activations of blocks again on the way back instead of keeping them."""
        return self.encoder.recompute

    @recompute.setter
    def recompute(self, value: bool) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]
        self.encoder.recompute = value

    def first_weights(self) -> None:
        """Those of the encoder."""
        self.encoder.first_weights()

    @classmethod
    def sanitize(  # pyright: ignore[reportIncompatibleMethodOverride]
        cls, names: Iterable[str]
    ) -> dict[str, str]:
        """The encoder's tensors, with the prefix, and this head's; others' are left out."""
        encoder = cls.encoder_class

        def rule(name: str) -> str | None:
            plain = _plain(name)
            if plain is None:
                return None
            if plain.startswith(encoder.parts):
                plain = encoder.prefix + plain
            return None if plain.startswith(cls.foreign) else plain

        return renamed(names, rule)


def _plain(name: str) -> str | None:
    """`name` as it is called today; None for what is computed from the config."""
    if name.endswith(BUFFERS):
        return None
    for old, new in OLD_NAMES.items():
        if name.endswith(old):
            return name.removesuffix(old) + new
    return name


def _checked(ids: np.ndarray) -> np.ndarray:
    check_ids(ids)
    return ids


def check_positions(ids: np.ndarray, positions: int, limit: int) -> None:
    """Raise ConfigError when a row of `ids` takes more positions than there are."""
    if positions > limit:
        raise ConfigError(
            f"ids {ids.shape} take {positions} positions, the model has {limit}",
            hint="cut the sequences, or split them into several",
        )


def check_types(ids: np.ndarray, token_type_ids: np.ndarray) -> None:
    """Raise ShapeError unless every id has a token type."""
    if token_type_ids.shape != ids.shape or token_type_ids.dtype.kind not in "iu":
        raise ShapeError(
            f"token_type_ids {token_type_ids.dtype} {token_type_ids.shape} for ids {ids.shape}",
            hint="give one integer for each id",
        )


def _check_documents(documents: np.ndarray | None) -> None:
    if documents is not None:
        raise ConfigError(
            "an encoder reads a row as one sequence, and these are documents to keep apart",
            hint="give each document a row of its own",
        )
