"""Tokenizers whose tokens are plain to see: of words, and of pieces with given merges."""

import json

import tokenizers
from tokenizers import models, pre_tokenizers

from entrenar_core.data.tokenizer import Tokenizer


def of_words(*words: str, added: tuple = (), normalizer=None, **settings) -> Tokenizer:
    """Words between spaces, with ids in order; then `added`, texts or AddedToken. `settings` go to
    tokenizer_config.json."""
    vocab = {word: number for number, word in enumerate(words)}
    return _made(models.WordLevel(vocab, unk_token=words[0]), normalizer, added, settings)


def of_pieces(pieces: list[str], merges: list[tuple[str, str]], *, added=(), **settings):
    """BPE without a fallback."""
    vocab = {piece: number for number, piece in enumerate(pieces)}
    return _made(models.BPE(vocab, merges), None, added, settings)


def _made(model, normalizer, added, settings) -> Tokenizer:
    inner = tokenizers.Tokenizer(model)
    if normalizer is not None:
        inner.normalizer = normalizer
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    inner.add_tokens([*added])
    return Tokenizer.from_json(json.loads(inner.to_str()), settings, where="toy")
