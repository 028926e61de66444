"""BPE on pieces with byte fallback (Llama 2, Mistral, TinyLlama) to `tokenizer.ggml.model` "llama".

A tokenizer.json lists merges by rank; llama.cpp has a score for each token and joins any two
neighbours that form a token, the highest score first. `merge_scores` says when that is the same.
"""

from typing import Any

import numpy as np

from entrenar_core.data.gguf_tokens import (
    KEY,
    AddedRules,
    Source,
    TokenType,
    added_around,
    check_texts,
    token_table,
)
from entrenar_core.data.merge_scores import scores_of_merges
from entrenar_core.io.gguf_values import Value, ValueType, array, flag, text, texts

__all__ = ["BYTES", "SPACE", "pieces_metadata"]

SPACE = "\u2581"
BYTES = tuple(f"<0x{byte:02X}>" for byte in range(256))
PRE = "default"
"""The one name that llama.cpp's converter writes for this kind of tokenizer."""

_PREPENDS = {"type": "Prepend", "prepend": SPACE}
_REPLACES = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}


def pieces_metadata(source: Source, *, rows: int | None, pre: str | None) -> dict[str, Value]:
    """The keys of a tokenizer whose spaces are U+2581 and whose unknown characters are bytes.

    `pre="default"` takes a Metaspace pre-tokenizer that puts U+2581 before the first word for the
    like of llama.cpp, which also puts one before a space, and after each special token.

    Where llama.cpp is told not to look for special tokens, pieces may still be joined to one: `<`
    and `s>`, if the latter is a piece.
    """
    source.check_plain_bpe()
    if source.model.get("ignore_merges"):
        raise source.refusal(
            "ignore_merges with byte fallback", "llama.cpp always merges such tokens"
        )
    prefix = _space_prefix(source, forced=pre is not None)
    missing = [byte for byte in BYTES if byte not in source.model["vocab"]]
    if missing:
        raise source.refusal(
            f"{len(missing)} of the 256 byte tokens are missing, the first {missing[0]!a}",
            "llama.cpp ends itself at a character that is neither a token nor bytes",
        )
    rules = AddedRules(changed=lambda _: source.content["normalizer"] is not None)
    found, types = token_table(source, rows=rows, rules=rules)
    check_texts(source, found)
    for byte in BYTES:
        types[source.model["vocab"][byte]] = TokenType.BYTE
    unknown = source.model.get("unk_token")
    if unknown in source.model["vocab"]:
        types[source.model["vocab"][unknown]] = TokenType.UNKNOWN
    scores = scores_of_merges(source, found, cut_out=_cut_out(found, types))
    keys = added_around(source, found)
    for role in ("bos", "eos"):
        if KEY + f"{role}_token_id" not in keys:
            raise source.refusal(
                f"there is no {role} token",
                "llama.cpp would take token 1 for bos and 2 for eos: name them in "
                "tokenizer_config.json",
            )
    return {
        KEY + "model": text("llama"),
        KEY + "pre": text(PRE),
        KEY + "tokens": texts(found),
        KEY + "scores": array(ValueType.F32, np.array(scores, np.float32)),
        KEY + "token_type": array(ValueType.I32, np.array(types, np.int32)),
        KEY + "add_space_prefix": flag(prefix),
    } | keys


def _cut_out(found: list[str], types: list[TokenType]) -> list[str]:
    """The tokens that are looked for in a text before anything is merged. One with U+2581 is not
    found there, since spaces become that afterwards."""
    special = (TokenType.CONTROL, TokenType.UNKNOWN, TokenType.USER_DEFINED)
    both = zip(found, types, strict=True)
    return [token for token, kind in both if kind in special and SPACE not in token]


def _space_prefix(source: Source, *, forced: bool) -> bool:
    """Whether a text, and what follows a special token, gets a space put before it."""
    steps = _parts(source.content["normalizer"], "normalizers")
    pre = source.content["pre_tokenizer"]
    if pre is None or _does_nothing(pre, steps):
        if steps == [_REPLACES]:
            return False
        if steps in ([_PREPENDS, _REPLACES], [_REPLACES, _PREPENDS]):
            return True
    if not steps and pre and pre["type"] == "Metaspace" and pre["replacement"] == SPACE:
        if pre["prepend_scheme"] == "never" and not pre["split"]:
            return False
        if forced:
            return pre["prepend_scheme"] != "never"
        raise source.refusal(
            f"a Metaspace with prepend_scheme {pre['prepend_scheme']!a} and split {pre['split']}",
            "llama.cpp puts a space before a text even if it begins with one, and after every "
            f'special token, and splits nowhere: if this may differ, say pre="{PRE}"',
        )
    raise source.refusal(
        "its normalizer and pre_tokenizer are not those of Llama 2",
        "llama.cpp turns spaces to U+2581, puts one before the text, and does nothing else",
    )


def _parts(part: dict[str, Any] | None, children: str) -> list[dict[str, Any]]:
    if part is None:
        return []
    return part[children] if part["type"] == "Sequence" else [part]


def _does_nothing(pre: dict[str, Any], steps: list[dict[str, Any]]) -> bool:
    """Whether it splits at spaces of which the normalizer has left none (Gemma)."""
    return pre["type"] == "Split" and pre["pattern"] == {"String": " "} and _REPLACES in steps
