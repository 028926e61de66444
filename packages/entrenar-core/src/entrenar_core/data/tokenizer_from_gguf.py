"""A tokenizer from GGUF metadata alone: a tokenizer.json and its config, rebuilt from the keys.

    with GGUFFile(path) as file:
        tokenizer = Tokenizer.from_json(*tokenizer_json_from_gguf(file.metadata), where=str(path))

A GGUF says less than a tokenizer.json. What is rebuilt gives the ids that llama.cpp gives: text is
not normalized (Qwen's NFC is not recorded), and control tokens are special ones. For "llama" the
merges are made of the scores, see `merges_of_scores`. Unused `[PADi]` tokens are left out.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from entrenar_common.errors import FormatError, UnsupportedError
from entrenar_core.data.gguf_pieces import SPACE
from entrenar_core.data.gguf_tokens import KEY, ROLES, TokenType
from entrenar_core.data.gguf_word_piece import CONTINUES, WORD_START
from entrenar_core.data.merge_scores import merges_of_scores
from entrenar_core.data.pre_tokenizers import kind_named, pre_tokenizer_of
from entrenar_core.io.gguf_values import Content

__all__ = ["tokenizer_json_from_gguf"]

Json = dict[str, Any]

_MERGED = (TokenType.NORMAL, TokenType.UNUSED)
# What llama.cpp takes where a key is missing.
_DEFAULT_IDS = {
    "gpt2": {"bos": 11, "eos": 11},
    "llama": {"bos": 1, "eos": 2, "unk": 0},
    "bert": {"bos": 101, "unk": 100, "sep": 102, "pad": 0, "mask": 103},
}


def tokenizer_json_from_gguf(
    metadata: Mapping[str, Content], *, where: str = "the GGUF metadata"
) -> tuple[Json, Json]:
    """The content of tokenizer.json and of tokenizer_config.json, for `Tokenizer.from_json`.

    Raises FormatError for keys that are missing or contradict each other, and UnsupportedError for
    a model or a pre-tokenizer that cannot be rebuilt.
    """
    keys = _Keys(metadata, where)
    name = keys.text("model")
    if name not in _BUILDERS:
        raise UnsupportedError(
            f"{where}: a tokenizer of the model {name!a}",
            hint=f"read are {', '.join(sorted(_BUILDERS))}",
        )
    table = _table(keys, name)
    parts = _BUILDERS[name](keys, table)
    content = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": table.added(parts.pop("may_strip", None)),
        **parts,
    }
    return content, _config(keys, table)


@dataclass(frozen=True)
class _Keys:
    """The metadata, whose types are checked where they are read."""

    metadata: Mapping[str, Content]
    where: str

    def fail(self, message: str) -> NoReturn:
        raise FormatError(
            f"{self.where}: {message}", hint="the file is damaged, or its writer had a fault"
        )

    def get(self, name: str, kind: type | tuple[type, ...]) -> Any:
        value = self.metadata.get(KEY + name)
        if value is None:
            return None
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            self.fail(f"{KEY}{name} has the wrong type, {type(value).__name__}")
        return value

    def text(self, name: str) -> str:
        found = self.get(name, str)
        if found is None:
            self.fail(f"{KEY}{name} is missing")
        return found

    def texts(self, name: str) -> tuple[str, ...]:
        found = self.get(name, tuple)
        if found is None:
            self.fail(f"{KEY}{name} is missing")
        return found

    def flag(self, name: str, *, default: bool) -> bool:
        found = self.get(name, bool)
        return default if found is None else found

    def numbers(self, name: str, count: int, kinds: str) -> np.ndarray | None:
        found = self.get(name, np.ndarray)
        if found is not None and (len(found) != count or found.dtype.kind not in kinds):
            self.fail(f"{KEY}{name} has {len(found)} values of {found.dtype} for {count} tokens")
        return found


@dataclass(frozen=True)
class _Table:
    """The tokens that are in use; `texts` and `types` by their ids."""

    texts: tuple[str, ...]
    types: tuple[TokenType, ...]
    roles: dict[str, int]

    def used(self) -> list[tuple[int, str, TokenType]]:
        return [
            (number, text, kind)
            for number, (text, kind) in enumerate(zip(self.texts, self.types, strict=True))
            if kind is not TokenType.UNUSED or text != f"[PAD{number}]"
        ]

    def vocab(self) -> dict[str, int]:
        return {text: number for number, text, _ in self.used()}

    def token(self, role: str) -> str | None:
        return self.texts[self.roles[role]] if role in self.roles else None

    def added(self, may_strip: str | None) -> list[Json]:
        kinds = (TokenType.CONTROL, TokenType.UNKNOWN, TokenType.USER_DEFINED)
        return [
            {
                "id": number,
                "content": text,
                "single_word": False,
                "lstrip": text == may_strip,
                "rstrip": False,
                "normalized": False,
                "special": kind is not TokenType.USER_DEFINED,
            }
            for number, text, kind in self.used()
            if kind in kinds
        ]


def _table(keys: _Keys, model: str) -> _Table:
    # an empty token gets the name that llama.cpp gives it
    found = tuple(text or f"[EMPTY_{n}]" for n, text in enumerate(keys.texts("tokens")))
    types = keys.numbers("token_type", len(found), "iu")
    known = [TokenType.NORMAL] * len(found) if types is None else [_type(n) for n in types]
    if len(set(found)) != len(found):
        keys.fail(f"{len(found) - len(set(found))} tokens have the text of another one")
    roles = {role: n for role, n in _DEFAULT_IDS[model].items() if n < len(found)}
    for role, name in ROLES.items():
        number = keys.get(name, int)
        if number is not None and number >= len(found):
            keys.fail(f"{KEY}{name} is {number}, and there are {len(found)} tokens")
        if number is not None:
            roles[role] = number
    return _Table(found, tuple(known), roles)


def _type(number: int) -> TokenType:
    return TokenType(number) if number in TokenType._value2member_map_ else TokenType.NORMAL


def _config(keys: _Keys, table: _Table) -> Json:
    config: Json = {"tokenizer_class": "PreTrainedTokenizerFast"}
    config |= {f"{role}_token": token for role in ROLES if (token := table.token(role)) is not None}
    template = keys.metadata.get("tokenizer.chat_template")
    if isinstance(template, str):
        config["chat_template"] = template
    return config | {"clean_up_tokenization_spaces": False}


# --- the kinds ---------------------------------------------------------------------------------


def _byte_level(keys: _Keys, table: _Table) -> Json:
    name = keys.text("pre")
    kind = kind_named(name)
    merges = [_pair(keys, merge) for merge in keys.texts("merges")]
    return {
        "may_strip": "<mask>" if name.startswith("jina-v2-") else None,
        "normalizer": None,
        "pre_tokenizer": pre_tokenizer_of(kind),
        "post_processor": _around(keys, table, adds_bos=kind.adds_bos),
        "decoder": {
            "type": "ByteLevel",
            "add_prefix_space": False,
            "trim_offsets": True,
            "use_regex": False,
        },
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": kind.whole_words,
            "vocab": table.vocab(),
            "merges": merges,
        },
    }


def _pair(keys: _Keys, merge: str) -> list[str]:
    cut = merge.find(" ", 1)
    if cut < 0:
        keys.fail(f"the merge {merge!a:.80} is not two tokens")
    return [merge[:cut], merge[cut + 1 :]]


def _pieces(keys: _Keys, table: _Table) -> Json:
    scores = keys.numbers("scores", len(table.texts), "f")
    if scores is None:
        keys.fail(f"{KEY}scores is missing")
    scored = {text: float(scores[n]) for n, text, kind in table.used() if kind in _MERGED}
    prefix = keys.flag("add_space_prefix", default=True)
    prepend = [{"type": "Prepend", "prepend": SPACE}] if prefix else []
    strip = [{"type": "Strip", "content": " ", "start": 1, "stop": 0}] if prefix else []
    replace = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
    back = {"type": "Replace", "pattern": {"String": SPACE}, "content": " "}
    bytes_back = [back, {"type": "ByteFallback"}, {"type": "Fuse"}]
    return {
        "normalizer": {"type": "Sequence", "normalizers": [*prepend, replace]},
        "pre_tokenizer": None,
        "post_processor": _around(keys, table, adds_bos=True),
        "decoder": {"type": "Sequence", "decoders": [*bytes_back, *strip]},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": table.token("unk"),
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": True,
            "byte_fallback": True,
            "ignore_merges": False,
            "vocab": table.vocab(),
            "merges": merges_of_scores(scored),
        },
    }


def _word_piece(keys: _Keys, table: _Table) -> Json:
    lowercase = keys.flag("normalizer.lowercase", default=True)
    for role in ("bos", "sep", "unk"):
        if table.token(role) is None:
            keys.fail(f"{KEY}{ROLES[role]} is missing")
    return {
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": True,
            "strip_accents": keys.flag("normalizer.strip_accents", default=lowercase),
            "lowercase": lowercase,
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": _template(table, before="bos", after="sep"),
        "decoder": {"type": "WordPiece", "prefix": CONTINUES, "cleanup": True},
        "model": {
            "type": "WordPiece",
            "unk_token": table.token("unk"),
            "continuing_subword_prefix": CONTINUES,
            "max_input_chars_per_word": 100,
            "vocab": {_unmarked(text, kind): n for n, text, kind in table.used()},
        },
    }


def _unmarked(text: str, kind: TokenType) -> str:
    if kind is not TokenType.NORMAL:
        return text
    return text.removeprefix(WORD_START) if text.startswith(WORD_START) else CONTINUES + text


# --- what is put around a text -----------------------------------------------------------------


def _around(keys: _Keys, table: _Table, *, adds_bos: bool) -> Json | None:
    before = "bos" if keys.flag("add_bos_token", default=adds_bos) else None
    after = "eos" if keys.flag("add_eos_token", default=False) else None
    for role in (before, after):
        if role is not None and table.token(role) is None:
            keys.fail(f"{KEY}add_{role}_token is true, and {KEY}{ROLES[role]} is missing")
    return _template(table, before=before, after=after) if before or after else None


def _template(table: _Table, *, before: str | None, after: str | None) -> Json:
    def special(role: str | None, sequence: int) -> list[Json]:
        token = table.token(role) if role else None
        return [{"SpecialToken": {"id": token, "type_id": sequence}}] if token is not None else []

    first: list[Json] = [{"Sequence": {"id": "A", "type_id": 0}}]
    second: list[Json] = [{"Sequence": {"id": "B", "type_id": 1}}]
    tokens = {table.texts[table.roles[role]]: table.roles[role] for role in (before, after) if role}
    return {
        "type": "TemplateProcessing",
        "single": special(before, 0) + first + special(after, 0),
        "pair": special(before, 0) + first + special(after, 0) + second + special(after, 1),
        "special_tokens": {
            token: {"id": token, "ids": [number], "tokens": [token]}
            for token, number in tokens.items()
        },
    }


_BUILDERS: dict[str, Callable[[_Keys, _Table], Json]] = {
    "gpt2": _byte_level,
    "llama": _pieces,
    "bert": _word_piece,
}
