"""Texts and pairs of texts to ids of at most some length, as transformers cuts them."""

import json
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import tokenizers

from entrenar_common.errors import ConfigError
from entrenar_core.data.tokenizer import Ids, LibraryErrors, Tokenizer

__all__ = ["Encoded", "Encoder"]


class Encoded(NamedTuple):
    """A text, or a pair of texts, as ids (T,), which text each is of, 0 or 1 (T,), and whether it
    was cut."""

    ids: Ids
    types: npt.NDArray[np.uint8]
    shortened: bool


class Encoder:
    """Encodes with a tokenizer to at most `max_length` ids.

    Of longer texts the special tokens are kept, and of a pair the longer text is cut first. Raises
    ConfigError when the special tokens alone do not fit.
    """

    def __init__(self, tokenizer: Tokenizer, *, max_length: int, pairs: bool) -> None:
        content, _ = tokenizer.to_json()
        with LibraryErrors("tokenizer"):
            # a copy: the length is of this reading, and no property of the tokenizer
            self._inner = tokenizers.Tokenizer.from_str(json.dumps(content))
            special = self._inner.num_special_tokens_to_add(is_pair=pairs)
        if max_length <= special:
            raise ConfigError(
                f"max_length {max_length} leaves no room beside {special} special tokens",
                hint="raise max_length",
            )
        self._inner.enable_truncation(max_length, strategy="longest_first")

    def __call__(self, texts: Sequence[str], seconds: Sequence[str] | None) -> list[Encoded]:
        """Each text, or pair with its second text, with the tokenizer's special tokens."""
        given = list(texts) if seconds is None else list(zip(texts, seconds, strict=True))
        with LibraryErrors("tokenizer"):
            encodings = self._inner.encode_batch(given)
        return [
            Encoded(
                np.array(each.ids, np.int32),
                np.array(each.type_ids, np.uint8),
                bool(each.overflowing),
            )
            for each in encodings
        ]
