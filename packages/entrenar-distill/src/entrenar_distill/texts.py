"""Text as a model reads it: what is measured, and what with."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from entrenar_common.errors import ConfigError
from entrenar_core.data.documents import TokenizedDocuments
from entrenar_core.data.load_tokenizer import load_tokenizer
from entrenar_core.data.tokenizer import Tokenizer
from entrenar_core.models.computing import FLOAT32, load_for
from entrenar_core.models.network import LanguageModel

__all__ = ["BATCH_TOKENS", "Reading", "load_language_model", "load_separating_tokenizer"]

BATCH_TOKENS = 4096
"""Tokens that are scored at a time."""


def load_separating_tokenizer(path: Path) -> Tokenizer:
    """The tokenizer of the model at `path`, which must have a token to put between documents."""
    tokenizer = load_tokenizer(path)
    if tokenizer.eos_id is None:
        raise ConfigError(
            f"{path}: the tokenizer names no end-of-text token, which documents are read between",
            hint="name one as eos_token in tokenizer_config.json",
        )
    return tokenizer


def load_language_model(path: Path, *, hint: str, compute: str = FLOAT32) -> Any:
    """The model at `path`, loaded to `compute` in what is called so (see `models.computing`). It
    must predict the next token; else `hint` says what to do."""
    model = load_for(path, compute)
    if not isinstance(model, LanguageModel):
        raise ConfigError(
            f"{path}: not a language model, so text has no perplexity under it", hint=hint
        )
    return model


@dataclass(frozen=True)
class Reading:
    """Documents as the tokens of one model."""

    tokenizer: Tokenizer
    documents: TokenizedDocuments

    @property
    def eos_id(self) -> int:
        assert self.tokenizer.eos_id is not None
        return self.tokenizer.eos_id

    def has_tokens_of(self, other: "Reading") -> bool:
        """Whether the documents are the same ids in both, and ids that both have the same tokens.

        Tokenizers are not compared as they are written: one that was rebuilt from a GGUF file, or
        whose vocabulary was padded, says the same in other words.
        """
        if self.documents.fingerprint != other.documents.fingerprint:
            return False
        mine, others = _tokens(self.tokenizer), _tokens(other.tokenizer)
        return all(others.get(number, token) == token for number, token in mine.items())


def _tokens(tokenizer: Tokenizer) -> dict[int, str]:
    """Each id's token."""
    content, _ = tokenizer.to_json()
    vocabulary = content["model"]["vocab"]
    if isinstance(vocabulary, dict):
        found = {number: token for token, number in vocabulary.items()}
    else:  # of a unigram model: pairs of a token and its score
        found = {number: token for number, (token, _) in enumerate(vocabulary)}
    return found | {added["id"]: added["content"] for added in content["added_tokens"]}
