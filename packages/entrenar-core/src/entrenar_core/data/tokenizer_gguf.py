"""A tokenizer as GGUF metadata, such that llama.cpp gives a text the ids that our tokenizer gives.

    metadata = gguf_tokenizer(*Tokenizer.load(folder).to_json(), rows=model.config.vocab_size)

Keys and types: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.
"""

import json
from typing import Any

import tokenizers

from entrenar_common.errors import ConfigError, UnsupportedError
from entrenar_core.data import gguf_pieces
from entrenar_core.data.gguf_byte_level import byte_level_metadata
from entrenar_core.data.gguf_tokens import Source, chat_templates
from entrenar_core.data.gguf_word_piece import word_piece_metadata
from entrenar_core.data.pre_tokenizers import NAMES
from entrenar_core.data.tokenizer import LibraryErrors, Tokenizer
from entrenar_core.data.tokenizer_from_gguf import tokenizer_json_from_gguf
from entrenar_core.data.tokenizer_json import check_tokenizer
from entrenar_core.io.gguf_values import Value

__all__ = ["as_in_gguf", "gguf_tokenizer"]


def as_in_gguf(tokenizer: Tokenizer) -> Tokenizer:
    """What a GGUF file says of a tokenizer: it has the same tokens with the same ids, and not all
    of the rest, see `tokenizer_from_gguf`.

    Raises what `gguf_tokenizer` raises.
    """
    keys = gguf_tokenizer(*tokenizer.to_json())
    metadata = {key: value.content for key, value in keys.items()}
    return Tokenizer.from_json(*tokenizer_json_from_gguf(metadata), where="tokenizer")


def gguf_tokenizer(
    content: dict[str, Any],
    config: dict[str, Any] | None = None,
    *,
    rows: int | None = None,
    pre: str | None = None,
    where: str = "tokenizer.json",
) -> dict[str, Value]:
    """The GGUF keys of a parsed tokenizer.json and tokenizer_config.json.

    Byte-level BPE becomes the model "gpt2", BPE with byte fallback "llama", WordPiece "bert".
    `rows` are the rows of the embedding, filled up with unused tokens. The way a byte-level
    tokenizer cuts text is found in its structure; `pre` is llama.cpp's name for it and overrules
    that.

    llama.cpp's rules for characters are its own, and no file can change them. Other ids than ours
    have: with "qwen2" and "qwen35" texts that are not in the normal form NFC, if the tokenizer
    normalizes; with "tekken" and "gpt-4o" words with combining marks, or with a change between
    capital and small letters outside of A-Z and a-z; with "bert" what `gguf_word_piece` lists; and
    characters that its tables and the library's know differently (letters new in Unicode 16, which
    are none to it; with "bert" punctuation and marks new in Unicode 9, which are none to the
    library).

    Raises UnsupportedError for all that would give other ids, with what could be done, FormatError
    for a damaged file, and ConfigError for an unknown `pre`.
    """
    check_tokenizer(content, where)
    with LibraryErrors(where):  # in the library's form every default is written out
        written = tokenizers.Tokenizer.from_str(json.dumps(content)).to_str()
    source = Source(json.loads(written), config or {}, where)
    model = source.model
    if pre is not None and pre not in NAMES:
        raise ConfigError(
            f"pre is {pre!a}, which llama.cpp does not know",
            hint=f"it knows {', '.join(sorted(NAMES))}",
        )
    if model["type"] == "WordPiece":
        keys = word_piece_metadata(source, rows=rows)
    elif model["type"] == "BPE" and model["byte_fallback"]:
        keys = gguf_pieces.pieces_metadata(source, rows=rows, pre=pre)
    elif model["type"] == "BPE":
        keys = byte_level_metadata(source, rows=rows, pre=pre)
    else:
        raise UnsupportedError(
            f"{where}: a tokenizer model of type {model['type']} cannot be written as GGUF here",
            hint="written are byte-level BPE, BPE with byte fallback, and WordPiece",
        )
    return keys | chat_templates(source.config)
