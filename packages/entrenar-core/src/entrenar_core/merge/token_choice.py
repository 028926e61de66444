"""Which tokens the result has, and where the embeddings come from that a model lacks."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from entrenar_common.errors import ConfigError
from entrenar_common.text import escape_controls

ModelKey = Hashable
"""What identifies a model; messages call it by its `str`."""


@dataclass(frozen=True)
class ModelToken:
    """The embedding of a token of `model`, by its text or by its id.

    Raises ConfigError where both or neither is given.
    """

    model: ModelKey
    token: str | None = None
    token_id: int | None = None

    def __post_init__(self) -> None:
        if (self.token is None) == (self.token_id is None):
            raise ConfigError(
                f"a token of {escape_controls(str(self.model))} is named by its text or by its id, "
                f"and {'neither' if self.token is None else 'both'} is given",
                hint="give token or token_id",
            )


@dataclass(frozen=True)
class Zero:
    """An embedding of zeros."""


@dataclass(frozen=True)
class TokenChoice:
    """Where the embedding of a token comes from that a model lacks: from what `source` says (a
    model's own of that token, for a model), and by the rules for all tokens where it is None. With
    `force`, the models that have the token get that embedding too."""

    source: ModelKey | ModelToken | Zero | None = None
    force: bool = False


@dataclass(frozen=True)
class TokenizerChoice:
    """The tokenizer of the result: the base's, one with the tokens of all models, or a model's;
    and those of `tokens` that it lacks. The embedding has a multiple of `pad_to_multiple_of` rows.

    Raises ConfigError for a multiple below 1.
    """

    source: Literal["base", "union"] | ModelKey = "union"
    tokens: Mapping[str, TokenChoice] = field(default_factory=dict)
    pad_to_multiple_of: int | None = None

    def __post_init__(self) -> None:
        if self.pad_to_multiple_of is not None and self.pad_to_multiple_of < 1:
            raise ConfigError(
                f"pad_to_multiple_of is {self.pad_to_multiple_of}, wanted at least 1",
                hint="leave it out, or use 64 or 128",
            )
        if "" in self.tokens:
            raise ConfigError("a token of tokens: is empty", hint="give its text")
