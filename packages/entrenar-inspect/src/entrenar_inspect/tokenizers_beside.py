"""What kind of tokenizer a model has, and how many tokens, without reading all of them."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from entrenar_common.errors import EntrenarError
from entrenar_core.io.strict_json import parse_json
from entrenar_inspect.artifact import GGUF, Artifact
from entrenar_inspect.metadata import length, text

_MODEL = re.compile(rb'"model"\s*:\s*\{')
_TYPE = re.compile(rb'"type"\s*:\s*"(\w{1,40})"')
_AFTER_VOCABULARY = re.compile(rb'"merges"\s*:\s*\[')
_LAST_ID = re.compile(
    rb":\s*(\d{1,9})\s*\}"
    rb'(?:\s*,\s*"unk_token"\s*:\s*"(?:[^"\\]|\\.)*")?[\s,}]*$'
)
_ADDED = re.compile(rb'"added_tokens"\s*:\s*(?=\[)')
_WINDOW = 2**20
"""Bytes of a tokenizer.json in which its added tokens are looked for."""
_TAIL = 2**12

_GGUF_KINDS = {
    "llama": "SentencePiece", "gpt2": "BPE", "bert": "WordPiece", "t5": "Unigram",
    "rwkv": "RWKV", "none": "none",
}  # fmt: skip
"""tokenizer.ggml.model → what it is. Source: llama.cpp, `llama_vocab_type`."""


@dataclass(frozen=True)
class Tokenizer:
    """A tokenizer.

    kind: of its model, such as BPE; size: how many ids it has, added ones too, None where that is
    not told cheaply; named: its class in transformers, or pre-tokenizer in GGUF; source: what says
    so.
    """

    kind: str | None
    size: int | None
    named: str | None
    source: str


def tokenizer_of(artifact: Artifact) -> Tokenizer | None:
    """The tokenizer of a model; None where there is none, or what there is cannot be read."""
    if artifact.kind == GGUF:
        return _of_gguf(artifact.metadata)
    try:
        return _of_files(artifact)
    except (EntrenarError, UnicodeDecodeError):
        return None


def _of_gguf(metadata: Mapping[str, Any]) -> Tokenizer | None:
    model = text(metadata, "tokenizer.ggml.model")
    if model is None:
        return None
    return Tokenizer(
        _GGUF_KINDS.get(model, model),
        length(metadata, "tokenizer.ggml.tokens"),
        text(metadata, "tokenizer.ggml.pre"),
        "tokenizer.ggml",
    )


def _of_files(artifact: Artifact) -> Tokenizer | None:
    named = _named(artifact)
    if artifact.is_remote:  # its vocabulary would be megabytes over the network
        return Tokenizer(None, None, named, "tokenizer_config.json") if named else None
    content = artifact.beside("tokenizer.json")
    if content is not None:
        return Tokenizer(*_of_json(content), named, "tokenizer.json")
    if artifact.beside("tokenizer.model") is not None:
        return Tokenizer("SentencePiece", None, named, "tokenizer.model")
    words = artifact.beside("vocab.txt")
    if words is not None:
        return Tokenizer("WordPiece", len(words.decode().splitlines()), named, "vocab.txt")
    return Tokenizer(None, None, named, "tokenizer_config.json") if named else None


def _named(artifact: Artifact) -> str | None:
    content = artifact.beside("tokenizer_config.json")
    if content is None:
        return None
    found = parse_json(content.decode(), "tokenizer_config.json")
    named = found.get("tokenizer_class") if isinstance(found, dict) else None
    return named if isinstance(named, str) else None


def _of_json(content: bytes) -> tuple[str | None, int | None]:
    """The kind and the number of ids of a tokenizer.json as the tokenizers library writes it.

    It is searched, since parsing ten megabytes takes longer than all else. The library writes a
    vocabulary in the order of its ids, so the last entry has the highest.
    """
    model = _MODEL.search(content)
    if model is None:
        return None, None
    kind = _TYPE.search(content, model.end(), model.end() + _TAIL)
    merges = _AFTER_VOCABULARY.search(content, model.end())
    end = merges.start() if merges else len(content)
    last = _LAST_ID.search(content[max(model.end(), end - _TAIL) : end])
    if last is None:  # Unigram's has scores instead of ids
        return kind and kind[1].decode(), None
    return kind and kind[1].decode(), max(int(last[1]), _highest_added(content)) + 1


def _highest_added(content: bytes) -> int:
    found = _ADDED.search(content, 0, _WINDOW)
    if found is None:
        return -1
    shown = content[found.end() : found.end() + _WINDOW].decode(errors="ignore")
    try:
        tokens, _ = json.JSONDecoder().raw_decode(shown)
    except (ValueError, RecursionError):
        return -1
    ids = (token.get("id") for token in tokens if isinstance(token, dict))
    return max((n for n in ids if type(n) is int), default=-1)
