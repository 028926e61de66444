"""What the configs of the encoders have in common, read strictly."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from entrenar_common.errors import ConfigError
from entrenar_core.models.config_keys import DEFAULT_LABELS, ConfigKeys, label_keys

PROBLEMS = ("regression", "single_label_classification", "multi_label_classification")
"""What a classification head can be trained for, in the words of `config.json`."""


class EncoderKeys(ConfigKeys):
    """The keys of an encoder's config; one that would make it a decoder is refused."""

    def __init__(self, raw: Mapping[str, Any], model_type: str):
        super().__init__(raw, model_type)
        for key in ("is_decoder", "add_cross_attention", "is_encoder_decoder"):
            self.only(key, False)
        self.only("position_embedding_type", "absolute")
        self.only("pruned_heads", {})

    def padding(self, default: int | None, rows: int) -> int | None:
        """`pad_token_id`, one of the word embeddings' rows, or None: then no row is special."""
        value = self.token("pad_token_id", default)
        if value is not None and value >= rows:
            raise self._wrong("pad_token_id", value, f"null or below vocab_size {rows}")
        return value

    def problem(self) -> str | None:
        value = self.take("problem_type", None)
        if value is not None and value not in PROBLEMS:
            raise self._wrong("problem_type", value, f"null or one of {', '.join(PROBLEMS)}")
        return value


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """What the configs of all encoders say, in one spelling."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    max_position_embeddings: int
    initializer_range: float
    tie_word_embeddings: bool
    pad_token_id: int | None
    bos_token_id: int | None
    eos_token_id: int | list[int] | None
    labels: tuple[str, ...] | None
    problem_type: str | None

    model_type: ClassVar[str]
    SPELLING: ClassVar[dict[str, tuple[str, int]]]
    """Our name of a size → its name in `config.json`, and what it is by default."""
    SPECIAL: ClassVar[dict[str, int | None]]
    """`pad`, `bos` and `eos` tokens where `config.json` has no word about them."""

    @classmethod
    def common(cls, keys: EncoderKeys) -> dict[str, Any]:
        """The fields of this class."""
        sizes = {name: keys.count(*spelling) for name, spelling in cls.SPELLING.items()}
        hidden, heads = sizes["hidden_size"], sizes["num_attention_heads"]
        if hidden % heads:
            raise ConfigError(
                f"config.json: {cls.SPELLING['hidden_size'][0]} {hidden} is no multiple of "
                f"{cls.SPELLING['num_attention_heads'][0]} {heads}",
                hint="the heads divide the width between them",
            )
        return {
            **sizes,
            "initializer_range": keys.number("initializer_range", 0.02),
            "tie_word_embeddings": keys.flag("tie_word_embeddings", True),
            "pad_token_id": keys.padding(cls.SPECIAL["pad"], sizes["vocab_size"]),
            "bos_token_id": keys.token("bos_token_id", cls.SPECIAL["bos"]),
            "eos_token_id": keys.tokens("eos_token_id", cls.SPECIAL["eos"]),
            "labels": keys.labels(),
            "problem_type": keys.problem(),
        }

    def common_to_hf(self) -> dict[str, Any]:
        """The fields of this class as `config.json` has them."""
        return {
            "model_type": self.model_type,
            **{theirs: getattr(self, ours) for ours, (theirs, _) in self.SPELLING.items()},
            "initializer_range": self.initializer_range,
            "tie_word_embeddings": self.tie_word_embeddings,
            "pad_token_id": self.pad_token_id,
            "bos_token_id": self.bos_token_id,
            "eos_token_id": self.eos_token_id,
            **label_keys(self.labels),
            "problem_type": self.problem_type,
            "dtype": "float32",
        }

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.num_attention_heads

    @property
    def label_count(self) -> int:
        """How many outputs a classifier has."""
        return len(self.labels or DEFAULT_LABELS)

    @property
    def positions(self) -> int:
        """How many tokens a sequence can have."""
        return self.max_position_embeddings
