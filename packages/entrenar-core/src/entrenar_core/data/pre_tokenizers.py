"""How byte-level tokenizers cut text into words, and the names that llama.cpp has for it.

A pre-tokenizer is described by the regular expressions that are applied one after the other, each
to the pieces the one before it left, so that tokenizer.json files that say the same in other words
are one kind. A kind is identified by this structure and never by what an example is encoded to.

Names and expressions: llama.cpp's src/llama-vocab.cpp (`tokenizer.ggml.pre`). Its own expressions
differ in notation: std::regex has no `(?i:)` and no \\p{}.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from entrenar_common.errors import UnsupportedError
from entrenar_core.data.patterns import (
    BLOOM_PATTERN,
    CL100K_PATTERN,
    DEEPSEEK_PATTERN,
    GPT2_PATTERN,
    GPT2_TIKTOKEN_PATTERN,
    LLAMA3_PATTERN,
    O200K_PATTERN,
    QWEN2_PATTERN,
    QWEN35_PATTERN,
    TEKKEN_PATTERN,
)

__all__ = ["NAMES", "Kind", "find_kinds", "kind_named", "pre_tokenizer_of", "splits_of"]

_DIGIT, _DIGITS = r"\p{N}", r"\p{N}+"
# Expressions that cut every text in the same places as another one.
_SAME = {CL100K_PATTERN: LLAMA3_PATTERN, GPT2_TIKTOKEN_PATTERN: GPT2_PATTERN}
# Each of these matches all of a text, so that keeping the matches keeps everything.
_COMPLETE = frozenset(
    (GPT2_PATTERN, LLAMA3_PATTERN, QWEN2_PATTERN, QWEN35_PATTERN, O200K_PATTERN, TEKKEN_PATTERN)
)


@dataclass(frozen=True)
class Kind:
    """A way to cut text that llama.cpp has too.

    `whole_words`: a word that is a token by itself is not merged from its bytes (`ignore_merges`).
    `adds_bos`: what llama.cpp assumes where a file has no `add_bos_token`.
    """

    name: str
    splits: tuple[str, ...]
    whole_words: bool = False
    adds_bos: bool = False
    same: tuple[str, ...] = ()  # further names that llama.cpp treats alike


_KINDS = (
    Kind(
        "gpt-2",
        (GPT2_PATTERN,),
        same=(
            *("phi-2", "jina-es", "jina-de", "jina-v1-en", "jina-v2-es", "jina-v2-de"),
            *("jina-v2-code", "roberta-bpe", "gigachat", "a.x-4.0", "mellum", "modern-bert"),
            *("exaone4", "mpt", "olmo", "jais", "trillion", "granite-docling"),
        ),
    ),
    Kind(
        "llama-bpe",
        (LLAMA3_PATTERN,),
        whole_words=True,
        adds_bos=True,
        same=(
            *("llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2"),
            "jina-v5-nano",
        ),
    ),
    Kind("glm4", (LLAMA3_PATTERN,), whole_words=True, same=("glm5",)),
    Kind("dbrx", (LLAMA3_PATTERN,), same=("smaug-bpe", "chatglm-bpe")),
    Kind(
        "qwen2",
        (QWEN2_PATTERN,),
        same=(
            *("deepseek-r1-qwen", "kormo", "f2llmv2", "megrez", "stablelm2", "hunyuan"),
            *("solar-open", "grok-2"),
        ),
    ),
    Kind("qwen35", (QWEN35_PATTERN,)),
    Kind(
        "smollm",
        (_DIGIT, GPT2_PATTERN),
        same=(
            *("starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"),
            "mellum2",
        ),
    ),
    Kind("tekken", (TEKKEN_PATTERN,), whole_words=True, adds_bos=True),
    Kind("gpt-4o", (O200K_PATTERN,), same=("llama4", "kanana2", "talkie", "minimax-m2")),
    Kind(
        "deepseek-v3",
        (r"\p{N}{1,3}", "[一-龥\u3040-ゟ゠-ヿ]+", DEEPSEEK_PATTERN),
        same=("hunyuan-dense", "joyai-llm", "hy_v4"),
    ),
    Kind("bloom", (BLOOM_PATTERN,), same=("poro-chat", "gpt3-finnish")),
)
_BY_NAME = {name: kind for kind in _KINDS for name in (kind.name, *kind.same)}
# llama.cpp knows these too, and cuts text for them in ways that nothing here describes.
_OTHERS = frozenset(
    (
        *("afmoe", "bailingmoe", "bailingmoe2", "chameleon", "cohere2moe", "deepseek-coder"),
        *("deepseek-llm", "default", "exaone-moe", "falcon", "granite-embed-multi-97m", "jais-2"),
        *("kimi-k2", "laguna", "llada-moe", "minicpm5", "seed-coder", "spark2_5", "superbpe"),
        *("tiny_aya", "ufakzeka", "viking", "youtu"),
    )
)
NAMES = frozenset(_BY_NAME) | _OTHERS
"""The names that llama.cpp knows for byte-level tokenizers."""


def kind_named(name: str) -> Kind:
    """The kind of a `tokenizer.ggml.pre` name; UnsupportedError for one that is not known here.

    >>> kind_named("starcoder").name
    'smollm'
    """
    if name not in _BY_NAME:
        raise UnsupportedError(
            f"the pre-tokenizer kind {name!a}: how it cuts text is not known here",
            hint=f"known are {', '.join(sorted(_BY_NAME))}",
        )
    return _BY_NAME[name]


def find_kinds(pre_tokenizer: dict[str, Any] | None) -> list[Kind]:
    """The kinds that cut text as this part of a tokenizer.json does: none, or a few that differ in
    what they do with whole words. The part is as the `tokenizers` library writes it, with defaults.
    """
    splits = splits_of(pre_tokenizer)
    return [kind for kind in _KINDS if kind.splits == splits]


def splits_of(pre_tokenizer: dict[str, Any] | None) -> tuple[str, ...] | None:
    """The expressions a byte-level pre-tokenizer isolates, in order; None for any other one."""
    parts = list(_flat(pre_tokenizer))
    if not parts or parts[-1]["type"] != "ByteLevel" or parts[-1]["add_prefix_space"]:
        return None
    splits = [_split(part) for part in parts[:-1]]
    if parts[-1]["use_regex"]:
        splits.append(GPT2_PATTERN)
    return None if None in splits else tuple(filter(None, splits))


def pre_tokenizer_of(kind: Kind) -> dict[str, Any]:
    """The pre_tokenizer of a tokenizer.json that cuts text as this kind does."""
    byte_level = {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": True,
        "use_regex": False,
    }
    splits = [
        {"type": "Split", "pattern": {"Regex": split}, "behavior": "Isolated", "invert": False}
        for split in kind.splits
    ]
    return {"type": "Sequence", "pretokenizers": [*splits, byte_level]}


def _flat(part: dict[str, Any] | None) -> Iterator[dict[str, Any]]:
    if part is None:
        return
    if part["type"] != "Sequence":
        yield part
        return
    for child in part["pretokenizers"]:
        yield from _flat(child)


def _split(part: dict[str, Any]) -> str | None:
    """The expression that this part isolates, None where it does anything else."""
    if part["type"] == "Digits":
        return _DIGIT if part["individual_digits"] else _DIGITS
    if part["type"] != "Split" or "Regex" not in part["pattern"]:
        return None
    pattern = part["pattern"]["Regex"]
    pattern = _SAME.get(pattern, pattern)
    isolates = part["behavior"] == "Isolated" and not part["invert"]
    keeps = part["behavior"] == "Removed" and part["invert"] and pattern in _COMPLETE
    return pattern if isolates or keeps else None
