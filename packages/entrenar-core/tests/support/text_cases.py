"""A small world of whole texts: a tokenizer like BERT's, texts, and encoders of toy size."""

from typing import Any

import numpy as np
import tokenizers
from tokenizers import models as token_models
from tokenizers import normalizers, pre_tokenizers, processors

from entrenar_core import models
from entrenar_core.data.texts import Texts
from entrenar_core.data.tokenizer import Tokenizer
from entrenar_core.testing import spread

WORDS = [
    "the", "a", "red", "blue", "small", "old", "fox", "dog", "tree", "house", "runs", "sleeps",
    "sees", "likes", "under", "near",
]  # fmt: skip
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
VOCABULARY = len(SPECIAL) + len(WORDS)


def word_tokenizer() -> Tokenizer:
    """Every word is an id, and a text stands between [CLS] and [SEP]; a pair has two [SEP]."""
    vocabulary = {word: i for i, word in enumerate([*SPECIAL, *WORDS])}
    inner = tokenizers.Tokenizer(token_models.WordPiece(vocabulary, unk_token="[UNK]"))
    inner.normalizer = normalizers.BertNormalizer()
    inner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    inner.add_special_tokens(list(SPECIAL))
    inner.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0",
        pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    return Tokenizer(inner, special={"pad": "[PAD]"})


def sentences(count: int, *, longest: int = 12, seed: int = 3) -> list[str]:
    """Different nonsense of 1 to `longest` words, the same on every machine."""
    rng, found = np.random.default_rng(seed), dict[str, None]()
    while len(found) < count:
        words = rng.integers(len(WORDS), size=rng.integers(1, longest + 1))
        found[" ".join(WORDS[i] for i in words)] = None
    return list(found)


def texts_of(lengths: Any, *, labels: Any = None, pairs: bool = False, seed: int = 0) -> Texts:
    """Texts of these lengths with drawn ids, [CLS] and [SEP] at their ends."""
    rng, lengths = np.random.default_rng(seed), np.asarray(lengths)
    rows = [np.r_[2, rng.integers(5, VOCABULARY, n - 2), 3].astype(np.int32) for n in lengths]
    types = [np.arange(n) >= n // 2 for n in lengths]
    return Texts(
        names=[f"text {i}" for i in range(len(lengths))],
        tokens=np.concatenate(rows),
        types=np.concatenate(types).astype(np.uint8) if pairs else None,
        starts=np.cumsum(lengths) - lengths,
        lengths=lengths,
        labels=None if labels is None else np.asarray(labels),
        shortened=np.zeros(len(lengths), bool),
        fingerprint="drawn",
    )


ENCODER = {
    "model_type": "bert",
    "vocab_size": VOCABULARY,
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 32,
    "initializer_range": 0.2,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
    "pad_token_id": 0,
}


def encoder(head: str, *, seed: int = 0, dtype: str = "float32", **overrides: Any) -> Any:
    """A BERT of some thousand parameters in which every one matters."""
    config = {**ENCODER, **overrides}
    return spread(models.from_config(config, seed=seed, head=head, dtype=dtype), seed)
