"""The regular expressions of known pre-tokenizers: a tokenizer file may hold no others.

The engine backtracks, so that an expression such as `(a+)+` from a file can take exponential time.
Sources: the tokenizer files of GPT-2, Llama 3, Qwen, Mistral, DeepSeek, BLOOM and
Falcon; tiktoken's encodings cl100k and o200k.
"""

import re

_SPACE = r"|\s+(?!\S)|\s+"
_LETTERS = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_CASELESS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_SYMBOLS = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+" + _SPACE
_POSSESSIVE = r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}"

GPT2_PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+" + _SPACE
GPT2_TIKTOKEN_PATTERN = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+" + _SPACE
CL100K_PATTERN = _POSSESSIVE + r"+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]" + _SPACE
LLAMA3_PATTERN = f"{_CASELESS}|{_LETTERS}|\\p{{N}}{{1,3}}|{_SYMBOLS}"
QWEN2_PATTERN = f"{_CASELESS}|{_LETTERS}|\\p{{N}}|{_SYMBOLS}"
QWEN35_PATTERN = (
    f"{_CASELESS}|[^\\r\\n\\p{{L}}\\p{{N}}]?[\\p{{L}}\\p{{M}}]+|\\p{{N}}"
    r"| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+" + _SPACE
)
O200K_PATTERN = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+{_CASELESS}?"
    rf"|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*{_CASELESS}?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+" + _SPACE
)
TEKKEN_PATTERN = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+" + _SPACE
)
DEEPSEEK_PATTERN = (
    r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"""
    r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+" + _SPACE
)
BLOOM_PATTERN = r" ?[^(\s|[.,!?…。，、।۔،])]+"
KNOWN_PATTERNS = {
    GPT2_PATTERN: "GPT-2",
    GPT2_TIKTOKEN_PATTERN: "GPT-2 in tiktoken",
    CL100K_PATTERN: "GPT-4 (cl100k)",
    _POSSESSIVE
    + r"++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s": "GPT-4 (cl100k)",
    LLAMA3_PATTERN: "Llama 3",
    QWEN2_PATTERN: "Qwen 2",
    QWEN35_PATTERN: "Qwen 3.5",
    O200K_PATTERN: "GPT-4o (o200k)",
    TEKKEN_PATTERN: "Mistral (Tekken)",
    DEEPSEEK_PATTERN: "DeepSeek V3",
    BLOOM_PATTERN: "BLOOM",
    "[0-9][0-9][0-9]": "Falcon",
}
# One character or plain class with at most one quantifier, after at most one that is optional,
# runs in linear time. In this expression itself no text may match in two ways.
_ATOM = r"(?:[^\\\[\](){}|.*+?^$]|\\[pP]\{\w{1,20}\}|\\.|\[\^?(?:\\.|[^\\\[\]&])+\])"
_SIMPLE = re.compile(rf"(?:{_ATOM}\?)?{_ATOM}(?:[*+?]|\{{\d{{1,3}}(?:,\d{{0,3}})?\}})?", re.DOTALL)


def is_safe_pattern(expression: str) -> bool:
    """True for a known pre-tokenizer's pattern, and for one character class with one quantifier.

    >>> is_safe_pattern(" {2,}"), is_safe_pattern("(a+)+")
    (True, False)
    """
    return expression in KNOWN_PATTERNS or _SIMPLE.fullmatch(expression) is not None
