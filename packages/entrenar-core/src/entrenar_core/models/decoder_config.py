"""The fields that LLaMA and its relatives share, in the names of a Hugging Face `config.json`."""

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Self

from entrenar_common.errors import ConfigError
from entrenar_core.models.config_keys import ConfigKeys, label_keys
from entrenar_core.nn import Rotary


class Biases(NamedTuple):
    """Whether there are biases: on queries, keys and values; on the output of attention; on the
    gated layer."""

    qkv: bool = False
    output: bool = False
    inner: bool = False


@dataclass(frozen=True, kw_only=True)
class DecoderConfig(ABC):
    """The shape of a decoder with rotary positions, RMS norms and gated layers.

    A subclass adds its fields, and says by properties what its blocks do about them.
    """

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    max_position_embeddings: int
    rms_norm_eps: float
    rope_parameters: Mapping[str, Any]
    tie_word_embeddings: bool
    attention_dropout: float
    initializer_range: float
    bos_token_id: int | None
    eos_token_id: int | list[int] | None
    pad_token_id: int | None
    labels: tuple[str, ...] | None

    model_type: ClassVar[str]
    head_norm: ClassVar[bool] = False
    """Whether queries and keys are normalised, each head by itself."""

    @classmethod
    def from_hf(cls, raw: Mapping[str, Any]) -> Self:
        """The config in a `config.json`. Every key is used, known to be harmless, or an error."""
        keys = ConfigKeys(raw, cls.model_type)
        config = cls(**cls._fields(keys))
        keys.only("hidden_act", "silu")
        keys.finish()
        config._check()
        return config

    @classmethod
    @abstractmethod
    def _fields(cls, keys: ConfigKeys) -> dict[str, Any]:
        """Every field of the class from its key."""

    @property
    def biases(self) -> Biases:
        """Which projections have one."""
        return Biases()

    @property
    def windows(self) -> list[int | None]:
        """For each layer how many positions a query sees, its own included; None for all."""
        return [None] * self.num_hidden_layers

    def with_layers(self, layers: tuple[int, ...]) -> Self:
        """The config of a model with only the given layers of this one."""
        return dataclasses.replace(self, num_hidden_layers=len(layers))

    def _check(self) -> None:
        if self.num_attention_heads % self.num_key_value_heads:
            raise ConfigError(
                f"num_attention_heads {self.num_attention_heads} is no multiple of "
                f"num_key_value_heads {self.num_key_value_heads}",
                hint="each key-value head serves the same number of query heads",
            )
        if self.pad_token_id is not None and self.pad_token_id >= self.vocab_size:
            raise ConfigError(
                f"pad_token_id {self.pad_token_id} in a vocabulary of {self.vocab_size}",
                hint="give an id of the vocabulary, or null",
            )
        Rotary(self.head_dim, self.rope_parameters, self.max_position_embeddings)

    def to_hf(self) -> dict[str, Any]:
        """A `config.json` that transformers reads, with the old and the new spelling of rope."""
        rope = dict(self.rope_parameters)
        scaling = {key: value for key, value in rope.items() if key != "rope_theta"}
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {
            "model_type": self.model_type,
            **{key: value for key, value in fields.items() if key != "labels"},
            "hidden_act": "silu",
            "rope_theta": rope["rope_theta"],
            "rope_scaling": None if rope.get("rope_type") == "default" else scaling,
            "rope_parameters": rope,
            **label_keys(self.labels),
            "use_cache": True,
            "dtype": "float32",
        }


def shared_fields(
    keys: ConfigKeys,
    *,
    vocabulary: int,
    inner: int,
    positions: int,
    bos: int | None,
    eos: int | None,
    groups: int | None,
    width: int | None = None,
) -> dict[str, Any]:
    """The fields of `DecoderConfig`, with the defaults that differ between its relatives: `groups`
    are the key-value heads where the key is missing, `width` the elements of a head; None for as
    many as follow from the other sizes."""
    hidden = keys.count("hidden_size", 4096)
    heads = keys.count("num_attention_heads", 32)
    if groups is None or "num_key_value_heads" in keys:  # where it is null it is the heads
        groups = heads
    return {
        "vocab_size": keys.count("vocab_size", vocabulary),
        "hidden_size": hidden,
        "intermediate_size": keys.count("intermediate_size", inner),
        "num_hidden_layers": keys.count("num_hidden_layers", 32),
        "num_attention_heads": heads,
        "num_key_value_heads": keys.count("num_key_value_heads", groups),
        "head_dim": keys.count("head_dim", width or hidden // heads),
        "max_position_embeddings": keys.count("max_position_embeddings", positions),
        "rms_norm_eps": keys.number("rms_norm_eps", 1e-6),
        "rope_parameters": keys.rope(default_theta=10000.0),
        "tie_word_embeddings": keys.flag("tie_word_embeddings", False),
        "attention_dropout": keys.probability("attention_dropout", 0.0),
        "initializer_range": keys.number("initializer_range", 0.02),
        "bos_token_id": keys.token("bos_token_id", bos),
        "eos_token_id": keys.tokens("eos_token_id", eos),
        "pad_token_id": keys.token("pad_token_id", None),
        "labels": keys.labels(),
    }
