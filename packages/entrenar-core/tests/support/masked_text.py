"""A tokenizer with the special tokens of BERT, documents for it, and models that read them."""

import json

import numpy as np
import tokenizers
from tokenizers import pre_tokenizers, processors
from tokenizers.models import WordLevel

from entrenar_core import models
from entrenar_core.data.documents import TokenizedDocuments
from entrenar_core.data.tokenizer import Tokenizer
from entrenar_core.testing import spread

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
PAD, UNK, CLS, SEP, MASK = range(5)
VOCABULARY = 61
WORDS = VOCABULARY - len(SPECIAL)
ROLES = {"pad_token": "[PAD]", "mask_token": "[MASK]"}


def around(template: str = "[CLS] $A [SEP]"):
    """What puts special tokens around a text."""
    ids = [("[CLS]", CLS), ("[SEP]", SEP)]
    return processors.TemplateProcessing(single=template, special_tokens=ids)


def tokenizer(roles=ROLES, *, processor=None, special=True) -> Tokenizer:
    """The words w0, w1, … between spaces, with ids that go on from the special tokens'."""
    vocab = {text: i for i, text in enumerate([*SPECIAL, *(f"w{i}" for i in range(WORDS))])}
    inner = tokenizers.Tokenizer(WordLevel(vocab, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if special:
        inner.add_special_tokens([*SPECIAL])
    inner.post_processor = around() if processor is None else processor
    return Tokenizer.from_json(json.loads(inner.to_str()), dict(roles), where="toy")


def documents(*lengths: int, seed: int = 0, around: bool = True) -> TokenizedDocuments:
    """Documents of so many words; `around` puts [CLS] and [SEP] there, as tokenizing does."""
    rng = np.random.default_rng(seed)
    texts = [rng.integers(len(SPECIAL), VOCABULARY, n) for n in lengths]
    ids = [np.array([CLS, *text, SEP] if around else text, np.int32) for text in texts]
    return TokenizedDocuments.from_arrays([f"d{i}" for i in range(len(ids))], ids, [*lengths])


SHAPES = {
    "bert": {
        "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4,
        "intermediate_size": 40,
    },
    "roberta": {
        "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4,
        "intermediate_size": 40, "pad_token_id": PAD,
    },
    "distilbert": {"dim": 24, "n_layers": 2, "n_heads": 4, "hidden_dim": 40},
}  # fmt: skip


def masked_config(kind: str, **changes) -> dict:
    """The keys of a `config.json` for the tokenizer's vocabulary."""
    return {
        "model_type": kind, "vocab_size": VOCABULARY, "max_position_embeddings": 24,
        "initializer_range": 0.2, **SHAPES[kind], **changes,
    }  # fmt: skip


def masked_model(kind: str, *, seed: int = 0, dtype: str = "float64", **changes):
    """A masked language model in which every parameter matters. Without dropout unless asked."""
    config = masked_config(kind, **changes)
    return spread(models.from_config(config, seed=seed, head="masked-lm", dtype=dtype), seed)
