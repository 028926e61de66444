"""Small tokenizers of every kind that goes to GGUF and back, as tokenizer.json and its config."""

import json
import pathlib
from collections.abc import Callable
from typing import Any

import tokenizers
from tokenizers import (
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from entrenar_core.data.patterns import (
    BLOOM_PATTERN,
    CL100K_PATTERN,
    DEEPSEEK_PATTERN,
    GPT2_PATTERN,
    LLAMA3_PATTERN,
    O200K_PATTERN,
    QWEN2_PATTERN,
    QWEN35_PATTERN,
    TEKKEN_PATTERN,
)
from entrenar_core.data.tokenizer import train_bpe
from varied_strings import SPECIAL, STRINGS

Json = dict[str, Any]
SPACE = "\u2581"
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]


def texts() -> list[str]:
    """The varied strings and a few sources of the standard library."""
    sources = sorted(pathlib.Path(json.__path__[0]).glob("*.py"))
    return [text.replace(SPECIAL, " ") for text in STRINGS] + [
        p.read_text("utf-8") for p in sources
    ]


def split(pattern: str, *, behavior: str = "isolated", invert: bool = False) -> Any:
    return pre_tokenizers.Split(tokenizers.Regex(pattern), behavior, invert=invert)


def byte_level(
    *before: Any, size: int, use_regex: bool = False, **options: Any
) -> tuple[Json, Json]:
    """Byte-level BPE with these pre-tokenizers before the bytes; `options` change the content."""
    bytes_ = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=use_regex)
    inner = tokenizers.Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.Sequence([*before, bytes_]) if before else bytes_
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[SPECIAL, "<s>", "</s>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    inner.train_from_iterator(texts(), trainer)
    content = json.loads(inner.to_str())
    content["model"]["ignore_merges"] = options.pop("ignore_merges", False)
    return content | options, {"bos_token": "<s>", "eos_token": SPECIAL}


def template(before: str | None, after: str | None, ids: dict[str, int]) -> Json:
    used = [token for token in (before, after) if token]
    single = [token for token in (before, "$A", after) if token]
    pair = [*single, *(token for token in ("$B:1", after) if token)]
    return json.loads(
        processors.TemplateProcessing(
            single=single, pair=pair, special_tokens=[(token, ids[token]) for token in used]
        ).__getstate__()
    )


def with_template(made: tuple[Json, Json], before: str | None, after: str | None) -> Any:
    content, config = made
    part = template(before, after, content["model"]["vocab"])
    return content | {"post_processor": part}, config


def trained(size: int) -> tuple[Json, Json]:
    """What `train_bpe` makes."""
    return train_bpe(texts(), size).to_json()


def whole_words(pattern: str, size: int) -> tuple[Json, Json]:
    made = byte_level(split(pattern), size=size, ignore_merges=True)
    return with_template(made, "<s>", None)


def roberta(size: int) -> tuple[Json, Json]:
    content, config = byte_level(size=size, use_regex=True)
    ids = content["model"]["vocab"]
    content["post_processor"] = json.loads(
        processors.RobertaProcessing(
            ("</s>", ids["</s>"]), ("<s>", ids["<s>"]), add_prefix_space=False
        ).__getstate__()
    )
    mask = dict(content["added_tokens"][0], content="<mask>", id=len(ids), lstrip=True)
    content["added_tokens"].append(mask)
    return content, config | {
        "eos_token": "</s>",
        "sep_token": "</s>",
        "cls_token": "<s>",
        "mask_token": "<mask>",
    }


def ordered_pieces(size: int) -> list[str]:
    """Pieces that BPE learns where spaces are U+2581, in the order of SentencePiece's scores."""
    inner = tokenizers.Tokenizer(models.BPE())
    inner.normalizer = normalizers.Sequence(
        [normalizers.Prepend(SPACE), normalizers.Replace(" ", SPACE)]
    )
    inner.pre_tokenizer = pre_tokenizers.Split(SPACE, "merged_with_next")
    trainer = trainers.BpeTrainer(vocab_size=size, limit_alphabet=300, show_progress=False)
    inner.train_from_iterator(texts(), trainer)
    content = json.loads(inner.to_str())
    learned = [left + right for left, right in content["model"]["merges"]]
    learned += [SPACE * n for n in (2, 3, 4, 8)] + ["=" * n for n in (2, 4)]
    characters = [token for token in content["model"]["vocab"] if len(token) == 1]
    return list(dict.fromkeys([*learned, *characters]))


def pieces(size: int, *, prefix: bool = True) -> tuple[Json, Json]:
    """BPE with byte fallback like Llama 2's, with every way to cut a piece in two as a merge."""
    ordered = ordered_pieces(size)
    known = set(ordered)
    vocab = {t: n for n, t in enumerate(["<unk>", "<s>", "</s>", *BYTES, *ordered])}
    merges = [
        (token[:cut], token[cut:])
        for token in ordered
        for cut in reversed(range(1, len(token)))
        if token[:cut] in known and token[cut:] in known
    ]
    inner = tokenizers.Tokenizer(
        models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    )
    replace = normalizers.Replace(" ", SPACE)
    inner.normalizer = normalizers.Sequence(
        [normalizers.Prepend(SPACE), replace] if prefix else [replace]
    )
    inner.decoder = decoders.Sequence(
        [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
        + ([decoders.Strip(" ", 1, 0)] if prefix else [])
    )
    inner.add_special_tokens(
        [tokenizers.AddedToken(t, normalized=False) for t in ("<unk>", "<s>", "</s>")]
    )
    content = json.loads(inner.to_str())
    config = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    return with_template((content, config), "<s>", None)


def bert(
    size: int, *, lowercase: bool = True, strip_accents: bool | None = None
) -> tuple[Json, Json]:
    """WordPiece with BERT's normalizer."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    inner = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    inner.normalizer = normalizers.BertNormalizer(lowercase=lowercase, strip_accents=strip_accents)
    inner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    inner.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(
        vocab_size=size + 900, special_tokens=special, limit_alphabet=900, show_progress=False
    )
    inner.train_from_iterator([text.replace(SPACE, " ") for text in texts()], trainer)
    content = json.loads(inner.to_str())
    config = {f"{role}_token": f"[{role.upper()}]" for role in ("pad", "unk", "cls", "sep", "mask")}
    return with_template((content, config), "[CLS]", "[SEP]")


SMALL, LARGE = 600, 12_000
"""With the large size every word of the texts is a token, so that each cut between words shows."""

CASES: dict[str, Callable[[int], tuple[Json, Json]]] = {
    "train_bpe": trained,
    "gpt-2": lambda size: byte_level(size=size, use_regex=True),
    "gpt-2 in a Split": lambda size: byte_level(split(GPT2_PATTERN), size=size),
    "llama 3": lambda size: whole_words(LLAMA3_PATTERN, size),
    "gpt-4": lambda size: byte_level(split(LLAMA3_PATTERN), size=size),
    "cl100k": lambda size: byte_level(
        split(CL100K_PATTERN, behavior="removed", invert=True), size=size
    ),
    "qwen 2": lambda size: byte_level(split(QWEN2_PATTERN), size=size, normalizer={"type": "NFC"}),
    "qwen 3.5": lambda size: byte_level(split(QWEN35_PATTERN), size=size),
    "smollm": lambda size: byte_level(
        pre_tokenizers.Digits(individual_digits=True), size=size, use_regex=True
    ),
    "tekken": lambda size: whole_words(TEKKEN_PATTERN, size),
    "gpt-4o": lambda size: byte_level(split(O200K_PATTERN), size=size),
    "deepseek 3": lambda size: byte_level(
        split(r"\p{N}{1,3}"), split("[一-龥\u3040-ゟ゠-ヿ]+"), split(DEEPSEEK_PATTERN), size=size
    ),
    "bloom": lambda size: byte_level(split(BLOOM_PATTERN), size=size),
    "begins and ends": lambda size: with_template(
        byte_level(size=size, use_regex=True), "<s>", SPECIAL
    ),
    "roberta": roberta,
    "llama 2": pieces,
    "llama 2 without a prefix": lambda size: pieces(size, prefix=False),
    "bert uncased": bert,
    "bert cased": lambda size: bert(size, lowercase=False),
    "bert uncased with accents": lambda size: bert(size, strip_accents=False),
}
