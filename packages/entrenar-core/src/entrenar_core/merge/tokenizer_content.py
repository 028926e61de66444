"""The content of a tokenizer.json, from which tokens are taken and to which tokens are added."""

from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import Any

from entrenar_common.errors import FormatError, UnsupportedError
from entrenar_core.data.tokenizer import Tokenizer
from entrenar_core.data.tokenizer_json import MAX_ADDED_TOKENS

Json = dict[str, Any]

_SETTINGS = ("single_word", "lstrip", "rstrip", "normalized", "special")
_LISTS = ("additional_special_tokens", "extra_special_tokens")


class TokenizerContent:
    """What is in a tokenizer's files: `model` (token → id, the ordinary tokens) and `added` (token
    → its settings and id). `where` is what messages call it.

    Added tokens are what transformers makes of the files: those of tokenizer.json, with the
    settings that tokenizer_config.json has for them, and all tokens that it names special.
    """

    def __init__(self, tokenizer: Tokenizer, where: str) -> None:
        self._tokenizer = tokenizer
        self._content, self._config = tokenizer.to_json()
        self.where = where
        self.added: dict[str, Json] = {t["content"]: t for t in self._content["added_tokens"]}
        self._changed = False
        self._settle()

    @cached_property
    def model(self) -> dict[str, int]:
        """The ordinary tokens, and those added ones that the model knows too."""
        vocab = self._content["model"]["vocab"]
        if isinstance(vocab, dict):
            return vocab
        return {piece: number for number, (piece, _) in enumerate(vocab)}

    @property
    def vocabulary(self) -> dict[str, int]:
        """All tokens with their ids, in the order of these."""
        every = self.model | {token: entry["id"] for token, entry in self.added.items()}
        return dict(sorted(every.items(), key=lambda item: item[1]))

    def add(self, entries: Iterable[Json]) -> None:
        """Adds tokens with settings, as the tokenizers library does: one that the model knows keeps
        its id, one that is an added token gets the new settings, the others come after all."""
        following = max((entry["id"] for entry in self.added.values()), default=-1) + 1
        following = max(following, len(self.model))
        for entry in entries:
            token = entry["content"]
            known = self.added.get(token)
            number = self.model.get(token) if known is None else known["id"]
            wanted = entry | {"id": following if number is None else number}
            following = max(following, wanted["id"] + 1)
            if known != wanted:
                self.added[token] = wanted
                self._changed = True

    def strip(self, rows: int) -> list[str]:
        """Takes out the tokens whose id is `rows` or more, and returns the special roles (such as
        eos) that are without a token then.

        Raises UnsupportedError where the model knows such tokens and is not BPE.
        """
        unused = {token for token, number in self.vocabulary.items() if number >= rows}
        if not unused:
            return []
        self._changed = True
        self.added = {token: e for token, e in self.added.items() if token not in unused}
        if not unused.isdisjoint(self.model):
            self._strip_model(unused)
        return self._strip_names(unused)

    def _strip_model(self, unused: set[str]) -> None:
        model = self._content["model"]
        if model["type"] != "BPE":
            raise UnsupportedError(
                f"{self.where}: {len(unused)} tokens have no row in the embedding, and tokens are "
                f"taken out of BPE models only, not {model['type']}",
                hint="use another model's tokenizer, or give the embedding a row for each token",
            )
        prefix = len(model["continuing_subword_prefix"] or "")
        model["vocab"] = {t: n for t, n in model["vocab"].items() if t not in unused}
        model["merges"] = [
            [left, right]
            for left, right in model["merges"]
            if unused.isdisjoint((left, right, left + right[prefix:]))
        ]
        del self.model

    def _strip_names(self, unused: set[str]) -> list[str]:
        lost = [key for key, named in self._named() if named["content"] in unused]
        for key in {*lost} - {*_LISTS}:
            del self._config[key]
        for key in {*lost} & {*_LISTS}:
            named = self._config[key]
            self._config[key] = [entry for entry in named if _content_of(entry) not in unused]
        return sorted(key.removesuffix("_token") for key in {*lost} - {*_LISTS})

    def tokenizer(self) -> Tokenizer:
        """The tokenizer of it: the one it was made from, if nothing was changed.

        Raises UnsupportedError for more added tokens than a tokenizer.json is allowed, and for
        tokens that its normalizer makes something else of.
        """
        if not self._changed:
            return self._tokenizer
        if len(self.added) > MAX_ADDED_TOKENS:
            raise UnsupportedError(
                f"{self.where}: {len(self.added)} added tokens, and {MAX_ADDED_TOKENS} are allowed",
                hint="the tokenizers have little in common: use the tokenizer of one of the models",
            )
        ordered = sorted(self.added.values(), key=lambda entry: entry["id"])
        content = self._content | {"added_tokens": ordered}
        try:
            return Tokenizer.from_json(content, self._config, where=self.where)
        except FormatError as error:
            raise UnsupportedError(
                f"{self.where}: its tokenizer cannot have these tokens: {error.message}",
                hint="use the tokenizer of one of the models, or that of another one as the base",
            ) from error

    def _settle(self) -> None:
        """Makes added tokens of what tokenizer_config.json says, and forgets its second list of
        them: it would contradict the first one later."""
        listed = self._config.pop("added_tokens_decoder", None) or {}
        named = [entry for _, entry in self._named()]
        special = {entry["content"] for entry in named}
        decoder = [_entry(entry) for _, entry in sorted(listed.items(), key=lambda i: int(i[0]))]
        for entry in decoder:
            entry["special"] |= entry["content"] in special
        self.add(decoder)
        self.add(entry for entry in named if entry["content"] not in self.added)

    def _named(self) -> Iterator[tuple[str, Json]]:
        """The settings that name a special token, with that token as an entry."""
        for key, value in self._config.items():
            values = value if key in _LISTS else [value] if key.endswith("_token") else []
            for one in values.values() if isinstance(values, dict) else values or []:
                if isinstance(content := _content_of(one), str) and content:
                    yield key, _entry(one if isinstance(one, dict) else {"content": content})


def added_entry(token: str) -> Json:
    """The settings of a token that is given as text only: it is ordinary text elsewhere."""
    return _entry({"content": token, "normalized": True, "special": False})


def _content_of(value: Any) -> Any:
    return value.get("content") if isinstance(value, dict) else value


def _entry(settings: Json) -> Json:
    """All settings of an added token, with the defaults of one that is special; the id is given
    where the token is added."""
    special = settings.get("special", True)
    given = {"normalized": not special, "special": special} | settings
    return {"id": -1, "content": given["content"]} | {
        key: bool(given.get(key, False)) for key in _SETTINGS
    }
