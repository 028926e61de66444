"""Checks the structure of a tokenizer.json before the `tokenizers` library sees it.

The library panics on some inconsistent files (a merge outside the vocabulary, a chunk length of 0,
a template that names an undefined token), and a regular expression from a file can take
exponential time. Here every part is matched against what is known; the rest is an error.
"""

import base64
import binascii
import math
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from entrenar_common.errors import FormatError, RefusedError, UnsupportedError
from entrenar_core.data.patterns import KNOWN_PATTERNS, is_safe_pattern

MAX_ID = 2**24
MAX_MISSING_IDS = 2**16
MAX_ADDED_TOKENS = 2**17
NORMALIZERS = frozenset(
    (
        "BertNormalizer",
        "ByteLevel",
        "Lowercase",
        "NFC",
        "NFD",
        "NFKC",
        "NFKD",
        "Nmt",
        "Precompiled",
        "Prepend",
        "Replace",
        "Sequence",
        "Strip",
        "StripAccents",
    )
)
PRE_TOKENIZERS = frozenset(
    (
        "BertPreTokenizer",
        "ByteLevel",
        "CharDelimiterSplit",
        "Digits",
        "FixedLength",
        "Metaspace",
        "Punctuation",
        "Sequence",
        "Split",
        "UnicodeScripts",
        "Whitespace",
        "WhitespaceSplit",
    )
)
DECODERS = frozenset(
    (
        "BPEDecoder",
        "ByteFallback",
        "ByteLevel",
        "CTC",
        "Fuse",
        "Metaspace",
        "Replace",
        "Sequence",
        "Strip",
        "WordPiece",
    )
)
POST_PROCESSORS = frozenset(
    ("BertProcessing", "ByteLevel", "RobertaProcessing", "Sequence", "TemplateProcessing")
)
_PARTS = {
    "normalizer": (NORMALIZERS, "normalizers"),
    "pre_tokenizer": (PRE_TOKENIZERS, "pretokenizers"),
    "decoder": (DECODERS, "decoders"),
    "post_processor": (POST_PROCESSORS, "processors"),
}


class _Checker:
    """The checks; each method raises on the first problem, naming the place inside the file."""

    def __init__(self, path: str) -> None:
        self.path = path

    def fail(self, message: str) -> NoReturn:
        raise FormatError(
            f"{self.path}: {message}",
            hint="the tokenizer file is damaged or was edited: fetch or write it again",
        )

    def whole(self, value: Any) -> None:
        if not isinstance(value, dict):
            self.fail("a tokenizer is a JSON object")
        ids = self.model(value.get("model"))
        self.added_tokens(value.get("added_tokens", []), ids)
        for name in _PARTS:
            self.part(name, value.get(name))

    # --- the model -----------------------------------------------------------------------------

    def model(self, model: Any) -> dict[str, int]:
        if not isinstance(model, dict):
            self.fail("there is no model")
        kind = model.get("type") or _guess_model(model)
        if kind == "Unigram":
            return self.unigram(model)
        if kind not in ("BPE", "WordPiece", "WordLevel"):
            raise UnsupportedError(
                f"{self.path}: a tokenizer model of type {kind!a}",
                hint="supported are BPE, WordPiece, WordLevel and Unigram",
            )
        vocab = self.vocab(model.get("vocab"))
        if kind == "BPE":
            self.bpe(model, vocab)
        elif not isinstance(unknown := model.get("unk_token"), str) or unknown not in vocab:
            self.fail(f"the unknown token {unknown!a} is not in the vocabulary")
        return vocab

    def vocab(self, vocab: Any) -> dict[str, int]:
        if not isinstance(vocab, dict):
            self.fail("model.vocab is not an object of token → id")
        seen: dict[int, str] = {}
        for token, number in vocab.items():
            self.identifier(number, f"token {token!a}")
            if number in seen:
                self.fail(f"tokens {seen[number]!a} and {token!a} have the same id {number}")
            seen[number] = token
        return vocab

    def identifier(self, number: Any, what: str) -> int:
        if not _is_int(number) or not 0 <= number < MAX_ID:
            self.fail(f"{what} has the id {number!a}, wanted an integer from 0 to {MAX_ID - 1}")
        return number

    def bpe(self, model: dict[str, Any], vocab: dict[str, int]) -> None:
        if model.get("dropout"):
            raise UnsupportedError(
                f"{self.path}: BPE dropout makes every encoding random",
                hint="set model.dropout to null in the tokenizer file",
            )
        prefix = model.get("continuing_subword_prefix") or ""
        if not isinstance(prefix, str) or not isinstance(model.get("merges"), list):
            self.fail("model.merges is not a list, or the subword prefix is not text")
        for rank, merge in enumerate(model["merges"]):
            pair = merge.split(" ") if isinstance(merge, str) else merge
            if isinstance(merge, str) and merge.startswith("#version"):
                continue
            self.merge(pair, rank, vocab, prefix)

    def merge(self, pair: Any, rank: int, vocab: dict[str, int], prefix: str) -> None:
        if not _is_list_of(pair, str) or len(pair) != 2:
            self.fail(f"merge {rank} is not a pair of tokens: {pair!a:.80}")
        left, right = pair
        if not right.startswith(prefix):
            self.fail(f"merge {rank}: {right!a} does not start with the subword prefix {prefix!a}")
        for token in (left, right, left + right[len(prefix) :]):
            if token not in vocab:
                self.fail(f"merge {rank}: {token!a:.80} is not in the vocabulary")

    def unigram(self, model: dict[str, Any]) -> dict[str, int]:
        vocab = model.get("vocab")
        if not isinstance(vocab, list) or not 0 < len(vocab) < MAX_ID:
            self.fail("model.vocab of a Unigram model is not a list of [piece, score]")
        pieces: dict[str, int] = {}
        for index, entry in enumerate(vocab):
            if not isinstance(entry, list) or len(entry) != 2 or not _is_piece(*entry):
                self.fail(f"piece {index} is not [text, finite score]: {entry!a:.80}")
            pieces[entry[0]] = index
        if len(pieces) != len(vocab):
            self.fail(f"{len(vocab) - len(pieces)} pieces occur more than once")
        unknown = model.get("unk_id")
        if unknown is not None and not (_is_int(unknown) and 0 <= unknown < len(vocab)):
            self.fail(f"unk_id {unknown!a} is outside the vocabulary of {len(vocab)}")
        return pieces

    def added_tokens(self, added: Any, vocab: dict[str, int]) -> None:
        if not isinstance(added, list) or len(added) > MAX_ADDED_TOKENS:
            self.fail(f"added_tokens is not a list of at most {MAX_ADDED_TOKENS} tokens")
        contents = {number: token for token, number in vocab.items()}
        for index, token in enumerate(added):
            if not isinstance(token, dict) or not _is_text(token.get("content")):
                self.fail(f"added token {index} has no content")
            content = token["content"]
            number = self.identifier(token.get("id"), f"added token {content!a}")
            if contents.setdefault(number, content) != content or (
                vocab.get(content, number) != number
            ):
                self.fail(f"added token {content!a}: its id {number} contradicts the vocabulary")
        missing = max(contents, default=-1) + 1 - len(contents)
        if missing > MAX_MISSING_IDS:
            self.fail(f"{missing} ids below the largest one, {max(contents)}, belong to no token")

    # --- the parts around the model ------------------------------------------------------------

    def part(self, name: str, value: Any) -> None:
        known, children = _PARTS[name]
        if value is None:
            return
        if not isinstance(value, dict):
            self.fail(f"{name} is not an object")
        kind = value.get("type")
        if not isinstance(kind, str) or kind not in known:
            raise UnsupportedError(
                f"{self.path}: a {name} of type {kind!a}",
                hint=f"supported are {', '.join(sorted(known))}",
            )
        if kind == "Sequence":
            if not isinstance(value.get(children), list):
                self.fail(f"{name}: a Sequence without a list of {children}")
            for child in value[children]:
                self.part(name, child)
        elif kind in _SPECIFIC:
            _SPECIFIC[kind](self, value)

    def pattern(self, value: dict[str, Any]) -> None:
        pattern = value.get("pattern")
        if not isinstance(pattern, dict) or len(pattern) != 1:
            self.fail(f"{value['type']} without a pattern")
        expression = pattern.get("Regex")
        if expression is None:
            if not _is_text(pattern.get("String")):
                self.fail(f"{value['type']}: the pattern is neither text nor a regular expression")
        elif not isinstance(expression, str) or not is_safe_pattern(expression):
            raise RefusedError(
                f"{self.path}: an unknown regular expression {expression!a:.120}",
                hint="an expression from a file can take exponential time; known are those of "
                + ", ".join(sorted(set(KNOWN_PATTERNS.values()))),
            )

    def fixed_length(self, value: dict[str, Any]) -> None:
        length = value.get("length", 5)
        if not _is_int(length) or length < 1:
            self.fail(f"FixedLength with the length {length!a}, wanted at least 1")

    def charsmap(self, value: dict[str, Any]) -> None:
        try:
            data = base64.b64decode(value.get("precompiled_charsmap") or "", validate=True)
        except (binascii.Error, TypeError, ValueError):
            self.fail("the precompiled character map is not base64 text")
        size = int.from_bytes(data[:4], "little")
        if len(data) < 8 or size % 4 or not 0 < size <= len(data) - 4:
            self.fail("the precompiled character map is cut or malformed")

    def template(self, value: dict[str, Any]) -> None:
        tokens = value.get("special_tokens")
        if not isinstance(tokens, dict):
            self.fail("TemplateProcessing without special_tokens")
        for name, token in tokens.items():
            token = token if isinstance(token, dict) else {}
            ids, texts = token.get("ids", 0), token.get("tokens", 0)
            if not _is_list_of(ids, int) or not _is_list_of(texts, str) or len(ids) != len(texts):
                self.fail(f"TemplateProcessing: the special token {name!a} is malformed")
            for number in ids:
                self.identifier(number, f"TemplateProcessing: the special token {name!a}")
        for name in _template_names(value):
            if not isinstance(name, str) or name not in tokens:
                self.fail(f"TemplateProcessing: the token {name!a} is not in its special_tokens")


_SPECIFIC: dict[str, Callable[[_Checker, dict[str, Any]], None]] = {
    "Replace": _Checker.pattern,
    "Split": _Checker.pattern,
    "FixedLength": _Checker.fixed_length,
    "Precompiled": _Checker.charsmap,
    "TemplateProcessing": _Checker.template,
}


def check_tokenizer(value: Any, path: str) -> None:
    """Checks the parsed content of the tokenizer.json at `path`.

    Raises FormatError (inconsistent), UnsupportedError (a type of part unknown here) or
    RefusedError (a regular expression that is not on the list of known ones).
    """
    _Checker(path).whole(value)


def _guess_model(model: dict[str, Any]) -> str:  # files of before 2021 do not say the type
    if "merges" in model:
        return "BPE"
    if isinstance(model.get("vocab"), list):
        return "Unigram"
    return "WordPiece" if "max_input_chars_per_word" in model else "WordLevel"


def _template_names(value: dict[str, Any]) -> Iterator[Any]:
    for side in ("single", "pair"):
        pieces = value.get(side)
        for piece in pieces if isinstance(pieces, list) else ():
            special = piece.get("SpecialToken") if isinstance(piece, dict) else None
            if isinstance(special, dict):
                yield special.get("id")


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def _is_list_of(value: Any, kind: type) -> bool:
    return isinstance(value, list) and all(type(item) is kind for item in value)


def _is_piece(text: Any, score: Any) -> bool:
    return _is_text(text) and (_is_int(score) or isinstance(score, float)) and math.isfinite(score)
