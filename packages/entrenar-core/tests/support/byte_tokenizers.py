"""Tokenizers of several kinds that cut the same texts in different places."""

import functools
import json

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

from entrenar_core.data.tokenizer import Tokenizer, train_bpe

TEXTS = (
    "the cat and the dog see the other cats: naïve café 漢字漢字 🙂\n",
    "def encode(self, text):\n    return self.tokens[text.encode()]\n",
    "A red fox runs under the old tree; it sleeps.\tIt sees the house.\r\n",
)
SPECIAL = {"eos_token": "</s>", "bos_token": "<s>"}


def _made(inner, **config) -> Tokenizer:
    return Tokenizer.from_json(json.loads(inner.to_str()), {**SPECIAL, **config}, where="toy")


def byte_level(size: int, texts=TEXTS, normalizer=None, template: bool = False) -> Tokenizer:
    """Byte-level BPE; with a template, a bos token comes before every text."""
    inner = tokenizers.Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    if normalizer is not None:
        inner.normalizer = normalizer
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    inner.train_from_iterator(texts, trainer)
    if template:
        inner.post_processor = processors.TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", 0)]
        )
    return _made(inner)


def pieces() -> Tokenizer:
    """Pieces of SentencePiece's kind: a mark for spaces, bytes for what is in no piece, and a bos
    token before every text."""
    words = ["▁", "t", "h", "e", "c", "a", "s", "d", "o", "g", "n", ":", "f", "r", "x"]
    merges = [("t", "h"), ("th", "e"), ("▁", "the"), ("c", "a"), ("▁", "ca"), ("o", "d")]
    made = [a + b for a, b in merges]
    each = [f"<0x{byte:02X}>" for byte in range(256)]
    names = ["<unk>", "<s>", "</s>", *each, *words, *made]
    vocab = {name: number for number, name in enumerate(names)}
    inner = tokenizers.Tokenizer(
        models.BPE(vocab, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True)
    )
    inner.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    inner.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    inner.add_special_tokens(["<unk>", "<s>", "</s>"])
    inner.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 1)]
    )
    return _made(inner)


def words(normalizer=None) -> Tokenizer:
    """Words and signs, where spaces are in no token and most words are unknown."""
    names = ["<unk>", "<s>", "</s>", "the", "cat", "and", "dog", ":", ";", "漢字漢字", "is"]
    vocab = {name: number for number, name in enumerate(names)}
    inner = tokenizers.Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    inner.add_special_tokens(["<s>", "</s>"])
    if normalizer is not None:
        inner.normalizer = normalizer
    return _made(inner)


def lowercasing() -> Tokenizer:
    """Byte-level BPE that does not tell upper from lower case."""
    return byte_level(300, normalizer=normalizers.Lowercase())


KINDS = {
    "bytes": lambda: train_bpe(TEXTS, 257),
    "few merges": lambda: train_bpe(TEXTS, 280),
    "many merges": lambda: train_bpe(TEXTS[1:], 330),
    "a template": lambda: byte_level(290, template=True),
    "NFC": lambda: byte_level(310, normalizer=normalizers.NFC()),
    "NFKC": lambda: byte_level(310, normalizer=normalizers.NFKC()),
    "pieces": pieces,
    "words": words,
}


@functools.cache
def of_kind(name: str) -> Tokenizer:
    """The tokenizer of `KINDS` with this name."""
    return KINDS[name]()
