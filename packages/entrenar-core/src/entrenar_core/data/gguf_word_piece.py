"""WordPiece of BERT to `tokenizer.ggml.model` "bert".

llama.cpp marks the beginning of a word and not its continuation: `word` is written as `▁word` and
`##piece` as `piece`.

It always puts cls before and sep after a text, and its normalizer is its own. It differs from
BertNormalizer on texts with Hangul syllables, or with marks that are not "nonspacing" (it takes the
first character of a decomposition and drops every mark), with control characters that are white
space (it splits at U+000B, U+000C and U+0085, which BERT removes), with U+2581, and with words of
more than `max_input_chars_per_word` characters (unknown in BERT, in pieces there).
"""

from typing import Any

import numpy as np

from entrenar_core.data.gguf_tokens import (
    KEY,
    AddedRules,
    Source,
    TokenType,
    around_text,
    check_texts,
    special_tokens,
    token_table,
)
from entrenar_core.io.gguf_values import Value, ValueType, array, flag, text, texts

__all__ = ["CONTINUES", "WORD_START", "word_piece_metadata"]

WORD_START = "\u2581"
CONTINUES = "##"


def word_piece_metadata(source: Source, *, rows: int | None) -> dict[str, Value]:
    """The keys of a WordPiece tokenizer with BERT's normalizer and pre-tokenizer."""
    lowercase, strip_accents = _normalizer(source)
    _check_rest(source)
    _check_marks(source)
    found, types = token_table(source, rows=rows, rules=AddedRules(changed=lambda _: True))
    found = [_marked(token, kind) for token, kind in zip(found, types, strict=True)]
    check_texts(source, found)
    before, after = around_text(source)
    if before is None or after is None:
        raise source.refusal(
            "the template does not put a token before and after a text",
            "llama.cpp always adds cls and sep to texts of this kind",
        )
    roles = source.config | {"bos_token": before, "cls_token": before, "sep_token": after}
    named = Source(source.content, roles, source.where)
    return {
        KEY + "model": text("bert"),
        KEY + "pre": text("default"),
        KEY + "tokens": texts(found),
        KEY + "token_type": array(ValueType.I32, np.array(types, np.int32)),
        KEY + "normalizer.lowercase": flag(lowercase),
        KEY + "normalizer.strip_accents": flag(strip_accents),
    } | special_tokens(named, found)


def _normalizer(source: Source) -> tuple[bool, bool]:
    """Whether it makes letters small, and whether it takes their accents away."""
    part: dict[str, Any] = source.content["normalizer"] or {"type": None}
    if part["type"] != "BertNormalizer":
        raise source.refusal(
            f"a WordPiece tokenizer with the normalizer {part['type']}",
            "llama.cpp has BertNormalizer only",
        )
    for option in ("clean_text", "handle_chinese_chars"):
        if not part[option]:
            raise source.refusal(f"BertNormalizer without {option}", "llama.cpp always does it")
    accents = part["strip_accents"]
    return part["lowercase"], part["lowercase"] if accents is None else accents


def _check_rest(source: Source) -> None:
    pre = source.content["pre_tokenizer"]
    if pre is None or pre["type"] != "BertPreTokenizer":
        raise source.refusal(
            f"a WordPiece tokenizer with the pre_tokenizer {pre['type'] if pre else None}",
            "llama.cpp has BertPreTokenizer only",
        )
    prefix = source.model["continuing_subword_prefix"]
    if prefix != CONTINUES:
        raise source.refusal(
            f"words are continued with {prefix!a}", f"llama.cpp's files can mark {CONTINUES} only"
        )


def _check_marks(source: Source) -> None:
    for token in source.model["vocab"]:
        if token.startswith(CONTINUES + WORD_START):
            raise source.refusal(
                f"the token {token!a} continues a word with U+2581",
                "llama.cpp would take it for the beginning of one: remove it",
            )


def _marked(token: str, kind: TokenType) -> str:
    if kind is not TokenType.NORMAL:
        return token
    if token.startswith(CONTINUES) and token != CONTINUES:
        return token.removeprefix(CONTINUES)
    return WORD_START + token
