"""What all kinds of tokenizers share on their way to GGUF: the tokens, their types, special roles.

llama.cpp finds control and user-defined tokens in a text before anything else is done to it, the
longest first; the `tokenizers` library finds added tokens from left to right. Where two tokens
overlap so that this matters, the tokenizer is refused.

Names of the keys and types: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, and
llama.cpp's src/llama-vocab.cpp for what it does with them.
"""

from collections import Counter
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from entrenar_common.errors import FormatError, UnsupportedError
from entrenar_core.io.gguf_values import Value, flag, text, texts, u32

__all__ = [
    "KEY",
    "ROLES",
    "AddedRules",
    "Source",
    "TokenType",
    "added_around",
    "around_text",
    "chat_templates",
    "check_texts",
    "special_tokens",
    "token_table",
]

KEY = "tokenizer.ggml."
ROLES = {
    "bos": "bos_token_id",
    "eos": "eos_token_id",
    "unk": "unknown_token_id",
    "sep": "seperator_token_id",  # so spelt in the format
    "pad": "padding_token_id",
    "cls": "cls_token_id",
    "mask": "mask_token_id",
}
"""What a tokenizer_config.json calls `<role>_token`, and the key's name."""

_TEMPLATE = "tokenizer.chat_template"


class TokenType(IntEnum):
    """The numbers of `tokenizer.ggml.token_type`."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


@dataclass(frozen=True)
class Source:
    """A tokenizer.json in the form that the `tokenizers` library writes, and its config."""

    content: dict[str, Any]
    config: dict[str, Any]
    where: str

    @property
    def model(self) -> dict[str, Any]:
        """The model: its type, vocabulary and merges."""
        return self.content["model"]

    @property
    def added(self) -> list[dict[str, Any]]:
        """The added tokens."""
        return self.content["added_tokens"]

    def refusal(self, message: str, hint: str) -> UnsupportedError:
        """The error to raise where llama.cpp would not give the same ids."""
        return UnsupportedError(f"{self.where}: {message}", hint=hint)

    def check_plain_bpe(self) -> None:
        """Refuses options of a BPE model that llama.cpp has no counterpart of."""
        for option in ("dropout", "continuing_subword_prefix", "end_of_word_suffix"):
            if self.model.get(option) not in (None, "", 0.0):
                raise self.refusal(
                    f"the model has {option} {self.model[option]!a}",
                    "llama.cpp has no such thing: the tokenizer cannot be written as GGUF",
                )


@dataclass(frozen=True)
class AddedRules:
    """What added tokens may be: `changed` tells whether the normalizer changes a token's text, and
    `may_strip` is the one token that may take the white space to its left."""

    changed: Callable[[str], bool]
    may_strip: str | None = None


def token_table(
    source: Source, *, rows: int | None, rules: AddedRules
) -> tuple[list[str], list[TokenType]]:
    """The text and the type of each token, padded to `rows` with unused `[PADi]`.

    Raises UnsupportedError for what llama.cpp would treat in another way.
    """
    _check_added(source, rules)
    _check_overlaps(source)
    vocab = dict(source.model["vocab"])
    special = {token["content"] for token in source.added if token["special"]}
    added = {token["content"] for token in source.added}
    vocab |= {token["content"]: token["id"] for token in source.added}
    size = max(vocab.values(), default=-1) + 1
    if rows is not None and rows < size:
        raise source.refusal(
            f"{size} tokens, and the embedding has {rows} rows",
            "this tokenizer belongs to another model",
        )
    found = [f"[PAD{number}]" for number in range(rows or size)]
    types = [TokenType.UNUSED] * len(found)
    for token, number in vocab.items():
        found[number] = token
        types[number] = TokenType.NORMAL
        if token in added:
            control = token in special or _looks_special(token)
            types[number] = TokenType.CONTROL if control else TokenType.USER_DEFINED
    return found, types


def check_texts(source: Source, found: list[str]) -> None:
    """Refuses tokens that llama.cpp cannot hold: it ends itself when two have the same text."""
    twice = [token for token, count in Counter(found).items() if count > 1]
    if twice:
        raise source.refusal(
            f"{len(twice)} tokens would have the text of another one, the first {twice[0]!a}",
            "rename or remove one of them in tokenizer.json",
        )
    for number, token in enumerate(found):
        if not token or "\0" in token:
            raise source.refusal(
                f"token {number} is {token!a}", "llama.cpp ends a token's text at its first NUL"
            )


def _looks_special(token: str) -> bool:
    """Whether llama.cpp takes the token for a control token whatever the file says.

    Its converter marks these so, and its loader overrides the type of the well-known ones with a
    warning. They are found in a text when special tokens are asked for, as the library does.
    """
    return token in ("<pad>", "<mask>", "<2mass>", "[@BOS@]") or any(
        token.startswith(start) and token.endswith(end)
        for start, end in (("<|", "|>"), ("<｜", "｜>"), ("<unused", ">"))
    )


def _check_added(source: Source, rules: AddedRules) -> None:
    for token in source.added:
        content = token["content"]
        for option in ("single_word", "lstrip", "rstrip"):
            if token[option] and (option, content) != ("lstrip", rules.may_strip):
                raise source.refusal(
                    f"the added token {content!a} has {option}",
                    "llama.cpp takes nothing but the token's own text: clear the option in "
                    "tokenizer.json if texts need not be encoded so",
                )
        if token["normalized"] and rules.changed(content):
            raise source.refusal(
                f"the added token {content!a} is looked for in normalized text",
                'llama.cpp looks for it in the text itself: set its "normalized" to false',
            )


# --- tokens that overlap -----------------------------------------------------------------------


def _check_overlaps(source: Source) -> None:
    tokens = [token["content"] for token in source.added]
    raw = {token["content"] for token in source.added if not token["normalized"]}
    for together in sorted(set(_overlaps(tokens))):
        left = _cut(_cut([together], raw), set(tokens) - raw)
        for ties in (1, -1):  # of tokens equally long llama.cpp may take either
            order = sorted(sorted(tokens)[::ties], key=lambda token: -len(token.encode()))
            cuts = [together]
            for token in order:
                cuts = _cut(cuts, {token}, done=set(tokens))
            if cuts != left:
                raise source.refusal(
                    f"added tokens overlap: {together!a} is cut into {left!a}, and by llama.cpp "
                    f"into {cuts!a}",
                    "it takes the longest token first, not the leftmost: remove one of them",
                )


def _overlaps(tokens: list[str]) -> Iterator[str]:
    """Each text of two tokens of which the end of one is the beginning of the other, and each
    token with another one inside."""
    prefixes: dict[str, list[str]] = {}
    for token in tokens:
        for end in range(1, len(token)):
            prefixes.setdefault(token[:end], []).append(token)
    known = set(tokens)
    for token in tokens:
        for begin in range(len(token)):
            for other in prefixes.get(token[begin:], ()) if begin else ():
                yield token[:begin] + other
            if any(token[begin:end] in known for end in range(begin + 1, len(token) + (begin > 0))):
                yield token


def _cut(pieces: list[str], tokens: set[str], *, done: Container[str] = ()) -> list[str]:
    """The pieces cut at `tokens`, the leftmost first and of those the longest; `done` stay."""
    by_length = sorted(tokens, key=len, reverse=True)
    cuts = []
    for piece in pieces:
        place = begin = 0
        while place < len(piece) and piece not in done:
            match = next((token for token in by_length if piece.startswith(token, place)), None)
            if match is None:
                place += 1
                continue
            cuts += [piece[begin:place], match]
            place = begin = place + len(match)
        cuts.append(piece[begin:])
    return [cut for cut in cuts if cut]


# --- special roles -----------------------------------------------------------------------------


def special_tokens(source: Source, found: list[str]) -> dict[str, Value]:
    """The ids of the roles that the config and the model name.

    Raises FormatError for a role whose token does not exist.
    """
    numbers = {token: number for number, token in enumerate(found)}
    named = {role: _config_token(source.config, role) for role in ROLES}
    unknown = source.model.get("unk_token")
    named["unk"] = unknown if isinstance(unknown, str) else named["unk"]
    keys: dict[str, Value] = {}
    for role, token in named.items():
        if token is None:
            continue
        if token not in numbers:
            raise FormatError(
                f"{source.where}: the {role} token {token!a} is not in the vocabulary",
                hint="load it with transformers' AutoTokenizer and save it again: that adds it",
            )
        keys[KEY + ROLES[role]] = u32(numbers[token])
    return keys


def added_around(source: Source, found: list[str]) -> dict[str, Value]:
    """`special_tokens`, and whether bos and eos are put around a text.

    llama.cpp puts its bos before a text, so the template's token is the bos whatever the config
    says. Its eos also ends what is generated, so there the two have to be the same.
    """
    before, after = around_text(source)
    ends = _config_token(source.config, "eos")
    if after is not None and ends not in (None, after):
        raise source.refusal(
            f"the template ends a text with {after!a}, and eos_token is {ends!a}",
            "llama.cpp knows one end token: let both be the same in tokenizer_config.json",
        )
    sides = {"bos_token": before, "eos_token": after}
    roles = source.config | {role: token for role, token in sides.items() if token is not None}
    return special_tokens(Source(source.content, roles, source.where), found) | {
        KEY + "add_bos_token": flag(before is not None),
        KEY + "add_eos_token": flag(after is not None),
    }


def _config_token(config: dict[str, Any], role: str) -> str | None:
    token = config.get(f"{role}_token")
    token = token.get("content") if isinstance(token, dict) else token
    return token if isinstance(token, str) else None


def around_text(source: Source) -> tuple[str | None, str | None]:
    """The tokens that the post-processor puts before and after a text, None for no token."""
    before, after = _around(source, source.content["post_processor"])
    if len(before) > 1 or len(after) > 1:
        raise source.refusal(
            f"the template puts {len(before)} tokens before a text and {len(after)} after it",
            "llama.cpp adds one at most",
        )
    return next(iter(before), None), next(iter(after), None)


def _around(source: Source, part: dict[str, Any] | None) -> tuple[list[str], list[str]]:
    if part is None or part["type"] == "ByteLevel":
        return [], []
    if part["type"] == "Sequence":
        sides = [_around(source, child) for child in part["processors"]]
        return [t for before, _ in sides for t in before], [t for _, after in sides for t in after]
    if part["type"] in ("BertProcessing", "RobertaProcessing"):
        return [part["cls"][0]], [part["sep"][0]]
    before: list[str] = []
    after: list[str] = []
    side = before
    for piece in part["single"]:
        if "Sequence" in piece:
            side = after
        else:
            side += part["special_tokens"][piece["SpecialToken"]["id"]]["tokens"]
    return before, after


def chat_templates(config: dict[str, Any]) -> dict[str, Value]:
    """The keys of the chat template: one text, or a list of named ones with a `default`."""
    template = config.get("chat_template")
    if isinstance(template, str):
        return {_TEMPLATE: text(template)}
    if not isinstance(template, list):
        return {}
    named = {entry["name"]: entry["template"] for entry in template}
    keys = {_TEMPLATE: text(named.pop("default"))} if "default" in named else {}
    if named:
        keys["tokenizer.chat_templates"] = texts(named)
        keys |= {f"{_TEMPLATE}.{name}": text(body) for name, body in named.items()}
    return keys
