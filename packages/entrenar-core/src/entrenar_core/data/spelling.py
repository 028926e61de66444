"""What the tokens of a text cover of its bytes, and which bytes each id of a tokenizer stands for.

Spans always refer to the text as it was given. Where the tokens of a byte-level tokenizer spell the
text, their lengths say where each ends, also within a character. Elsewhere (a normalisation changed
the text, pieces of SentencePiece, words) it is the library's offsets, which are in characters of
the original text: tokens that share a character have no boundary between them.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import tokenizers

from entrenar_core.data.tokenizer import Ids, LibraryErrors, Tokenizer

__all__ = ["Key", "Spans", "Spelling"]

Int64 = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

Key = tuple[str, bytes, int]
"""What an id stands for: "text" or "special", the bytes, and how many ids stand for the same that
are counted before it."""

_BYTE = re.compile(r"<0x([0-9A-F]{2})>")
_WORD_START = "\u2581"
_FOLDS = {"letter case": ("A", "a"), "accents": ("\u00e9", "e")}


def _alphabet() -> dict[str, int]:
    """The byte of each character in the tokens of a byte-level tokenizer: Latin-1 characters that
    can be seen stand for themselves, and other bytes in rising order for U+0100 and on.

    Source: Radford et al., "Language Models are Unsupervised Multitask Learners" (2019), the code.
    """
    seen = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    hidden = [byte for byte in range(256) if byte not in seen]
    return {chr(byte): byte for byte in seen} | {
        chr(0x100 + place): byte for place, byte in enumerate(hidden)
    }


@dataclass(frozen=True, eq=False)
class Spans:
    """The tokens of one text.

    ids:    with those that the tokenizer's template puts before and after the text, int32 (n,)
    first, last: which of them are of the text: ids[first:last]
    ends:   how many of the text's bytes are read after each, int64 (n,), which never goes down
    cuts:   whether a boundary is after the token, bool (n,): there `ends` is exact and higher than
            at the boundary before. The last token of the text has the boundary at the text's end.
    """

    ids: Ids
    first: int
    last: int
    ends: Int64
    cuts: Mask

    @classmethod
    def make(cls, ids: Ids, first: int, last: int, ends: Int64, cuts: Mask, size: int) -> "Spans":
        """Spans of a text of `size` bytes from the ends and the boundaries, (last − first,), of the
        tokens that are of the text; boundaries that move nothing are dropped."""
        whole, every = np.zeros(len(ids), bool), np.zeros(len(ids), np.int64)
        every[last:] = size
        if last > first:
            ends = np.maximum.accumulate(ends)
            ends[-1] = size  # what the text ends with and no token covers goes to the last one
            before = np.where(cuts, ends, 0)
            before = np.concatenate([[0], np.maximum.accumulate(before)[:-1]])
            cuts = cuts & (ends > before) & (ends < size)
            cuts[-1] = size > 0
            every[first:last], whole[first:last] = ends, cuts
        return cls(ids, first, last, every, whole)


class Spelling:
    """A tokenizer seen from the bytes."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        content, _ = tokenizer.to_json()
        self.eos_id, self.vocab_size = tokenizer.eos_id, tokenizer.vocab_size
        self._inner = tokenizers.Tokenizer.from_str(json.dumps(content))
        self._added = {token["id"]: token for token in content["added_tokens"]}
        self._types = frozenset(_types(content))
        model = content["model"]
        self._prefix = model.get("continuing_subword_prefix") or ""
        self._falls_back = bool(model.get("byte_fallback"))
        unknown = model.get("unk_token")
        if isinstance(model.get("unk_id"), int):  # how Unigram says it
            unknown = self._inner.id_to_token(model["unk_id"])
        self.unknown_id = None if unknown is None else self._inner.token_to_id(unknown)

    @cached_property
    def folds(self) -> frozenset[str]:
        """What the tokenizer does not tell apart: "letter case", "accents"."""
        normalizer = self._inner.normalizer
        if normalizer is None:
            return frozenset()
        same = normalizer.normalize_str
        return frozenset(name for name, (a, b) in _FOLDS.items() if same(a) == same(b))

    @cached_property
    def keys(self) -> list[Key | None]:
        """For each id what it stands for; None for the unknown token and for numbers without a
        token. Of ids with equal bytes those that are named as a byte come last."""
        tokens = self._inner.get_vocab(with_added_tokens=True)
        order = sorted((_BYTE.fullmatch(token) is not None, n) for token, n in tokens.items())
        found: list[Key | None] = [None] * self.vocab_size
        seen: Counter[tuple[str, bytes]] = Counter()
        for _, number in order:
            if number != self.unknown_id:
                special = self._added.get(number, {}).get("special", False)
                key = "special" if special else "text", self._bytes[number]
                found[number] = (*key, seen[key])
                seen[key] += 1
        return found

    @cached_property
    def _bytes(self) -> dict[int, bytes]:
        return {
            number: self._bytes_of(token, number)
            for token, number in self._inner.get_vocab(with_added_tokens=True).items()
        }

    def _bytes_of(self, token: str, number: int) -> bytes:
        if number in self._added:
            return token.encode()
        if "ByteLevel" in self._types and _ALPHABET.keys() >= set(token):
            return bytes(_ALPHABET[character] for character in token)
        byte = _BYTE.fullmatch(token) if self._falls_back else None
        if byte:
            return bytes([int(byte[1], 16)])
        if self._prefix and token.startswith(self._prefix):
            token = token[len(self._prefix) :]
        return token.replace(_WORD_START, " ").encode() if self._marks_spaces else token.encode()

    @property
    def _marks_spaces(self) -> bool:
        return bool({"Metaspace", "Prepend", "Replace"} & self._types)

    def spans(self, texts: Sequence[str]) -> list[Spans]:
        """The tokens of each text; their ids are those of `Tokenizer.encode_many`."""
        texts = list(texts)
        if "ByteLevel" not in self._types:
            return self._with_offsets(texts)
        with LibraryErrors("tokenizer"):
            encodings = self._inner.encode_batch_fast(texts)  # which leaves offsets out
        found = [
            self._spelled(encoding, text.encode())
            for text, encoding in zip(texts, encodings, strict=True)
        ]
        others = [index for index, spans in enumerate(found) if spans is None]
        placed = dict(zip(others, self._with_offsets([texts[i] for i in others]), strict=True))
        return [placed[i] if spans is None else spans for i, spans in enumerate(found)]

    def _spelled(self, encoding: tokenizers.Encoding, text: bytes) -> Spans | None:
        """The tokens whose bytes are those of the text, one after the other."""
        ids, (first, last) = encoding.ids, _inside(encoding.special_tokens_mask)
        pieces = [self._bytes[number] for number in ids[first:last]]
        if b"".join(pieces) != text:
            return None
        ends = np.cumsum(np.fromiter(map(len, pieces), np.int64, len(pieces)))
        cuts = np.ones(len(pieces), bool)
        return Spans.make(np.array(ids, np.int32), first, last, ends, cuts, len(text))

    def _with_offsets(self, texts: list[str]) -> list[Spans]:
        with LibraryErrors("tokenizer"):
            encodings = self._inner.encode_batch(texts)
        found = []
        for text, encoding in zip(texts, encodings, strict=True):
            first, last = _inside(encoding.special_tokens_mask)
            ends, cuts, size = _placed(encoding.offsets[first:last], text)
            ids = np.array(encoding.ids, np.int32)
            found.append(Spans.make(ids, first, last, ends, cuts, size))
        return found


_ALPHABET = _alphabet()


def _inside(template: list[int]) -> tuple[int, int]:
    """Where the text's own tokens begin and end between those of the template."""
    first, last = 0, len(template)
    while first < last and template[first]:
        first += 1
    while last > first and template[last - 1]:
        last -= 1
    return first, last


def _placed(offsets: list[tuple[int, int]], text: str) -> tuple[Int64, Mask, int]:
    """Ends and boundaries of tokens from the characters that each covers.

    Characters between tokens that are in none go to the token after them from the first space on;
    those before it, such as an accent that a normalisation put into its letter, to the one before.
    """
    sizes = np.fromiter((len(character.encode()) for character in text), np.int64, len(text))
    bytes_before = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)])
    starts, ends = np.array(offsets, np.int64).reshape(-1, 2).T
    reached = np.maximum.accumulate(ends)
    # the lowest character of all tokens after each; after the last one there is none
    following = np.minimum.accumulate(starts[::-1])[::-1]
    following = np.append(following[1:], len(text))
    cuts = reached <= following
    places = np.arange(len(text) + 1)
    spaces = np.array([*(character.isspace() for character in text), True])
    next_space = np.minimum.accumulate(np.where(spaces, places, len(text))[::-1])[::-1]
    reached = np.where(cuts, np.minimum(following, next_space[reached]), reached)
    return bytes_before[reached], cuts, int(bytes_before[-1])


def _types(part: Any) -> Iterator[str]:
    """The types of all parts of a tokenizer.json but those of its model and template."""
    if isinstance(part, list):
        for each in part:
            yield from _types(each)
    elif isinstance(part, dict):
        yield from [part["type"]] if isinstance(part.get("type"), str) else []
        for name, each in part.items():
            if name not in ("model", "added_tokens"):
                yield from _types(each)
