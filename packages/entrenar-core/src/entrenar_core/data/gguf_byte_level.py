"""Byte-level BPE (GPT-2, Llama 3, Qwen, SmolLM, GPT-4, Tekken) to `tokenizer.ggml.model` "gpt2"."""

import unicodedata

import numpy as np
from tokenizers import models, pre_tokenizers

from entrenar_core.data.gguf_tokens import (
    KEY,
    AddedRules,
    Source,
    added_around,
    check_texts,
    token_table,
)
from entrenar_core.data.pre_tokenizers import NAMES, Kind, find_kinds
from entrenar_core.io.gguf_values import Value, ValueType, array, text, texts

__all__ = ["STRIPS_MASK", "byte_level_metadata"]

STRIPS_MASK = "jina-v2-code"
"""The kind like gpt-2 for which llama.cpp lets `<mask>` take the white space to its left."""

_MASK = "<mask>"


def byte_level_metadata(source: Source, *, rows: int | None, pre: str | None) -> dict[str, Value]:
    """The keys of a byte-level BPE tokenizer.

    llama.cpp normalizes nothing: where the tokenizer has NFC (Qwen), texts that are not in this
    form get other ids there, and it is the caller who has to normalize them.
    """
    source.check_plain_bpe()
    _check_normalizer(source)
    _check_alphabet(source)
    strips = [token["content"] for token in source.added if token["lstrip"]]
    name = pre or _find(source, strips_mask=strips == [_MASK])
    rules = AddedRules(
        changed=lambda token: not unicodedata.is_normalized("NFC", token),
        may_strip=_MASK if name == STRIPS_MASK else None,
    )
    found, types = token_table(source, rows=rows, rules=rules)
    check_texts(source, found)
    keys = added_around(source, found)
    if KEY + "eos_token_id" not in keys:
        raise source.refusal(
            "there is no eos token",
            "llama.cpp would take token 11 for the end of a text: name one in "
            "tokenizer_config.json",
        )
    return {
        KEY + "model": text("gpt2"),
        KEY + "pre": text(name),
        KEY + "tokens": texts(found),
        KEY + "token_type": array(ValueType.I32, np.array(types, np.int32)),
        KEY + "merges": texts(" ".join(pair) for pair in source.model["merges"]),
    } | keys


def _check_normalizer(source: Source) -> None:
    part = source.content["normalizer"]
    parts = part["normalizers"] if part and part["type"] == "Sequence" else [part] if part else []
    for one in parts:
        if one["type"] != "NFC":
            raise source.refusal(
                f"a byte-level tokenizer with the normalizer {one['type']}",
                "llama.cpp normalizes nothing: NFC is the only one that most texts can do without",
            )


def _check_alphabet(source: Source) -> None:
    """All bytes are tokens, and merges join nothing else, so that no text has unknown parts."""
    alphabet = set(pre_tokenizers.ByteLevel.alphabet())
    missing = alphabet - source.model["vocab"].keys()
    if missing:
        raise source.refusal(
            f"{len(missing)} of 256 bytes are not in the vocabulary",
            "llama.cpp drops such a byte after merging, tokenizers before: add the bytes",
        )
    for pair in source.model["merges"]:
        if not alphabet.issuperset("".join(pair)):
            raise source.refusal(
                f"the merge of {pair[0]!a} and {pair[1]!a} is not one of bytes",
                "this is no byte-level tokenizer",
            )


def _find(source: Source, *, strips_mask: bool) -> str:
    kinds = find_kinds(source.content["pre_tokenizer"])
    if not kinds:
        raise source.refusal(
            "llama.cpp has no name for the way its pre_tokenizer cuts text",
            "choose one that cuts alike with pre=...: " + ", ".join(sorted(NAMES)),
        )
    kind = next((kind for kind in kinds if kind.whole_words == _whole_words(source)), None)
    if kind is None and _merges_reach_all(source):
        kind = kinds[0]  # then taking whole words and merging them is the same
    if kind is None:
        raise source.refusal(
            _mismatch(kinds[0], whole_words=_whole_words(source)),
            "choose a kind with pre=... if this may differ: " + ", ".join(sorted(NAMES)),
        )
    return STRIPS_MASK if strips_mask and kind.name == "gpt-2" else kind.name


def _mismatch(kind: Kind, *, whole_words: bool) -> str:
    return (
        f"ignore_merges is {str(whole_words).lower()}, llama.cpp's {kind.name} takes it to be "
        f"{str(kind.whole_words).lower()}, and some tokens are not what their merges give"
    )


def _whole_words(source: Source) -> bool:
    return bool(source.model.get("ignore_merges"))


def _merges_reach_all(source: Source) -> bool:
    """Whether every token of the vocabulary is also what its own text is merged to."""
    vocab = source.model["vocab"]
    added = {token["content"] for token in source.added}
    merging = models.BPE(vocab, [tuple(pair) for pair in source.model["merges"]])
    alphabet = set(pre_tokenizers.ByteLevel.alphabet())
    return all(
        len(merging.tokenize(token)) == 1
        for token in vocab
        if token not in added and alphabet.issuperset(token)
    )
