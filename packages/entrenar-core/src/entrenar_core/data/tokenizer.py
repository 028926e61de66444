"""Text to token ids and back: a thin, strict layer over the `tokenizers` library."""

import contextlib
import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tokenizers
from tokenizers import decoders, models, pre_tokenizers, processors, trainers

from entrenar_common.errors import ConfigError, FormatError, NotFoundError
from entrenar_common.progress import NullProgress, Progress
from entrenar_core.data.library_errors import LibraryErrors
from entrenar_core.data.tokenizer_json import check_tokenizer
from entrenar_core.data.tokenizer_roles import (
    ROLES,
    SPECIAL_MAP,
    all_named,
    named,
    read_object,
    read_special,
)
from entrenar_core.io import files

__all__ = ["LibraryErrors", "Tokenizer", "started", "train_bpe"]

Ids = npt.NDArray[np.int32]

_SMALLEST_VOCAB = 257  # 256 bytes and the end-of-text token
_TEMPLATE = "chat_template.jinja"
_PROBE = "Probe 12, naïve: 漢字 🙂\n\n  end"


@contextlib.contextmanager
def started(progress: Progress | None, task_name: str, total: int | None) -> Iterator[Progress]:
    """A started progress, finished at the end whatever happens; None reports to nobody."""
    progress = progress or NullProgress()
    progress.start(task_name, total)
    try:
        yield progress
    finally:
        progress.finish()


class Tokenizer:
    """A tokenizer of Hugging Face's tokenizer.json kind; encodes and decodes as transformers does.

    `bos_id`, `eos_id` and `pad_id` are None where the tokenizer defines no such token.
    Make one with `Tokenizer.load` or `train_bpe`.
    """

    def __init__(
        self, inner: tokenizers.Tokenizer, *, special: dict[str, str], where: str = "tokenizer"
    ) -> None:
        inner.no_truncation()  # settings of whoever saved the file: they would cut documents
        inner.no_padding()
        self._inner = inner
        self._where = where
        self._special = dict(special)
        self._named = {f"{role}_token": token for role, token in special.items()}
        self._config: dict[str, Any] = {}
        self._texts: dict[str, str] = {}
        self.bos_id, self.eos_id, self.pad_id = map(self._special_id, ("bos", "eos", "pad"))

    def _special_id(self, role: str) -> int | None:
        token = self._special.get(role)
        if token is None:
            return None
        number = self._inner.token_to_id(token)
        if number is None:
            raise FormatError(
                f"{self._where}: the {role} token {token!a} is not in tokenizer.json",
                hint="load it with transformers' AutoTokenizer and save it again: that adds it",
            )
        return number

    @classmethod
    def load(cls, folder: str | Path) -> "Tokenizer":
        """The tokenizer of a model folder: tokenizer.json, and the files that name its bos, eos
        and pad tokens (tokenizer_config.json, special_tokens_map.json or config.json).

        Raises NotFoundError, FormatError (damaged), RefusedError (an unknown regular expression)
        and UnsupportedError.
        """
        folder = Path(folder)
        path = folder / "tokenizer.json"
        if not path.is_file():
            raise NotFoundError(
                f"{path}: no such file",
                hint="a folder with vocab.json, vocab.txt or tokenizer.model only is converted by "
                "transformers: AutoTokenizer.from_pretrained(folder).save_pretrained(folder)",
            )
        text = files.read_text(path)
        inner = _checked(files.parse_json(text, path), text, str(path))
        special, config = read_special(folder, inner)
        tokenizer = cls(inner, special=special, where=str(path))
        tokenizer._config = config
        tokenizer._named = all_named(read_object(folder / SPECIAL_MAP)) | all_named(config)
        template = folder / _TEMPLATE
        if template.is_file():
            tokenizer._texts[template.name] = files.read_text(template)
        return tokenizer

    @classmethod
    def from_json(
        cls, content: dict[str, Any], config: dict[str, Any], *, where: str = "tokenizer"
    ) -> "Tokenizer":
        """The tokenizer of a parsed tokenizer.json and tokenizer_config.json, checked as by `load`.

        `where` is what error messages call it.
        """
        inner = _checked(content, json.dumps(content), where)
        special = {role: token for role in ROLES if (token := named(config, role)) is not None}
        tokenizer = cls(inner, special=special, where=where)
        tokenizer._config = dict(config)
        tokenizer._named = all_named(config)
        return tokenizer

    def to_json(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """What `from_json` takes: the content of tokenizer.json with all defaults written out, and
        that of tokenizer_config.json, chat template included."""
        config = {f"{role}_token": token for role, token in self._special.items()} | self._config
        if _TEMPLATE in self._texts:
            config["chat_template"] = self._texts[_TEMPLATE]
        return json.loads(self._inner.to_str()), config

    @property
    def chat_template(self) -> str | None:
        """The Jinja text that makes a prompt of messages; of several by name, the default one."""
        found = self._texts.get(_TEMPLATE, self._config.get("chat_template"))
        if isinstance(found, list):
            named = [entry for entry in found if isinstance(entry, dict)]
            found = {entry.get("name"): entry.get("template") for entry in named}.get("default")
        return found if isinstance(found, str) else None

    def with_chat_template(self, template: str) -> "Tokenizer":
        """The same tokenizer with this chat template, in place of all that it has."""
        made = Tokenizer(self._inner, special=self._special, where=self._where)
        made._config = {key: v for key, v in self._config.items() if key != "chat_template"}
        made._texts = {_TEMPLATE: template}
        made._named = self._named
        return made

    @property
    def where(self) -> str:
        """What error messages call it: the path of its file, if it has one."""
        return self._where

    @property
    def named_tokens(self) -> dict[str, str]:
        """The special tokens that a chat template knows by name, such as `bos_token`."""
        return dict(self._named)

    @cached_property
    def special_tokens(self) -> dict[str, int]:
        """The tokens that control a model and stand for no text, with their ids."""
        added = self._inner.get_added_tokens_decoder().items()
        return {token.content: number for number, token in added if token.special}

    def save(self, folder: str | Path) -> None:
        """Writes the files that `Tokenizer.load` and transformers' AutoTokenizer read."""
        folder = Path(folder)
        files.make_folder(folder)
        tokens = {f"{role}_token": self._special[role] for role in ROLES if role in self._special}
        default = {"tokenizer_class": "PreTrainedTokenizerFast"}
        config = default | tokens | {"clean_up_tokenization_spaces": False} | self._config
        files.write_text(folder / "tokenizer.json", self._inner.to_str(pretty=True) + "\n")
        files.write_json(folder / "tokenizer_config.json", config)
        files.write_json(folder / SPECIAL_MAP, tokens)
        for name, text in self._texts.items():
            files.write_text(folder / name, text)

    def encode(self, text: str) -> Ids:
        """The ids of `text`, with the tokens that the tokenizer's template puts around it.

        The text of a special token inside `text` becomes that token, as in transformers.
        Raises ConfigError for text with half of a surrogate pair: it has no UTF-8 form.
        """
        return self.encode_many([text])[0]

    def encode_many(self, texts: Sequence[str]) -> list[Ids]:
        """`encode` of each text, in parallel inside the library's own threads (no fork)."""
        _check_texts(texts)
        with LibraryErrors(self._where):
            encodings = self._inner.encode_batch_fast(list(texts))
        return [np.array(encoding.ids, dtype=np.int32) for encoding in encodings]

    def encode_spans(self, texts: Sequence[str], *, template: bool) -> list[tuple[Ids, Ids]]:
        """ids (n,) of each text, and the characters that each is of, from and up to, (n, 2).

        Without `template`, nothing is put around the text. A token that the template puts there is
        of no characters: both numbers are 0.
        """
        _check_texts(texts)
        with LibraryErrors(self._where):
            encodings = self._inner.encode_batch(list(texts), add_special_tokens=template)
        return [
            (np.array(e.ids, np.int32), np.array(e.offsets, np.int32).reshape(-1, 2))
            for e in encodings
        ]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of `ids`, special tokens included; bytes that are not UTF-8 show as U+FFFD."""
        numbers = [int(number) for number in ids]
        for number in numbers:
            if not 0 <= number < self.vocab_size:
                raise ConfigError(
                    f"token id {number} is outside the vocabulary of {self.vocab_size}",
                    hint="the ids come from another tokenizer or from a model with padded rows",
                )
        with LibraryErrors(self._where):
            return self._inner.decode(numbers, skip_special_tokens=False)

    @property
    def vocab_size(self) -> int:
        """One more than the largest id, added tokens included: the rows an embedding needs."""
        return self._vocab_size

    @cached_property
    def _vocab_size(self) -> int:
        return max(self._inner.get_vocab(with_added_tokens=True).values(), default=-1) + 1

    @property
    def mask_id(self) -> int | None:
        """The id of the token that stands for a hidden one; None where there is no such token.

        Raises FormatError for one that tokenizer.json does not have.
        """
        return self._special_id("mask")

    @cached_property
    def special_ids(self) -> frozenset[int]:
        """The ids of the tokens that stand for no text, such as those that a template adds."""
        added = self._inner.get_added_tokens_decoder()
        return frozenset(number for number, token in added.items() if token.special)

    @cached_property
    def text_ids(self) -> Ids:
        """All other ids that there are, in order."""
        known = set(self._inner.get_vocab(with_added_tokens=True).values())
        return np.array(sorted(known - self.special_ids), dtype=np.int32)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of all that decides the ids of a text, independent of the file's layout."""
        content = json.loads(self._inner.to_str())
        parts = {key: content[key] for key in ("added_tokens", "normalizer", "pre_tokenizer")}
        parts["model"] = content["model"]
        parts["post_processor"] = _adds_tokens(content["post_processor"])
        text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def same_as(self, other: "Tokenizer") -> bool:
        """True when both give equal ids to every text."""
        return self.fingerprint == other.fingerprint


def _checked(content: Any, text: str, where: str) -> tokenizers.Tokenizer:
    """The library's tokenizer of a tokenizer.json, whose text and parsed content these are."""
    check_tokenizer(content, where)
    with LibraryErrors(where):
        inner = tokenizers.Tokenizer.from_str(text)
        probe = inner.encode(_PROBE).ids  # what panics at all mostly does so at once
        inner.decode(probe)
    _check_added(content.get("added_tokens", []), inner, where)
    size = max(inner.get_vocab(with_added_tokens=True).values(), default=-1) + 1
    if max(probe, default=0) >= size:  # a template can name any number
        raise FormatError(
            f"{where}: encoding gives the id {max(probe)}, and the vocabulary ends below it",
            hint="correct the ids in the post_processor of the file",
        )
    return inner


def _check_added(added: list[dict[str, Any]], inner: tokenizers.Tokenizer, where: str) -> None:
    """The library numbers added tokens itself, so that it can silently contradict the file."""
    for token in added:
        number = inner.token_to_id(token["content"])
        if number != token["id"]:
            raise FormatError(
                f"{where}: the added token {token['content']!a} has the id {token['id']}, "
                f"and {number} when it is loaded",
                hint="ids of added tokens must go on from the vocabulary without a gap",
            )


def _check_texts(texts: Sequence[str]) -> None:
    for index, text in enumerate(texts):
        if not text.isascii():
            _check_text(text, index)


def _check_text(text: str, index: int) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ConfigError(
            f"text {index} has half of a surrogate pair at character {error.start}",
            hint="it has no UTF-8 form: repair it with text.encode('utf-8', 'replace').decode()",
        ) from error


def _adds_tokens(processor: dict[str, Any] | None) -> Any:
    """The post-processor without its ByteLevel parts: they change offsets, never ids."""
    if processor is None or processor["type"] == "ByteLevel":
        return None
    if processor["type"] == "Sequence":
        return [part for part in map(_adds_tokens, processor["processors"]) if part] or None
    return processor


def train_bpe(
    texts: Iterable[str],
    vocab_size: int,
    *,
    eos_token: str = "<|endoftext|>",
    progress: Progress | None = None,
) -> Tokenizer:
    """Learns byte-level BPE with GPT-2's pre-tokenizer from `texts`, read once.

    All 256 bytes are in the alphabet, so every text is encoded without loss. Equal texts give equal
    tokenizers, on any number of threads. `eos_token` has id 0. The vocabulary has `vocab_size`
    entries, or fewer when the text is too small to find that many pairs.

    Raises ConfigError for a vocabulary below 257 entries, for no text, and for an `eos_token` that
    ordinary text could produce. Source: Sennrich et al., "Neural Machine Translation of Rare Words
    with Subword Units" (2016); Radford et al., "Language Models are Unsupervised Multitask
    Learners" (2019).

    >>> tokenizer = train_bpe(["the cat and the dog"] * 9, 260)
    >>> tokenizer.decode(tokenizer.encode("the end"))
    'the end'
    """
    if vocab_size < _SMALLEST_VOCAB:
        raise ConfigError(
            f"vocab_size is {vocab_size}, a byte-level vocabulary has at least {_SMALLEST_VOCAB}",
            hint="choose 1,000 to 32,000 by the size of the text",
        )
    splitter = pre_tokenizers.ByteLevel(add_prefix_space=False)
    if len(splitter.pre_tokenize_str(eos_token)) < 2:
        raise ConfigError(
            f"eos_token {eos_token!a} could be produced by ordinary text",
            hint="use one that mixes letters and signs, such as <|endoftext|> or </s>",
        )
    inner = tokenizers.Tokenizer(models.BPE())
    inner.pre_tokenizer = splitter
    inner.decoder = decoders.ByteLevel()
    inner.post_processor = processors.ByteLevel(trim_offsets=False)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[eos_token],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    total = len(texts) if isinstance(texts, Sequence) else None
    with started(progress, "train tokenizer", total) as meter, LibraryErrors("training"):
        inner.train_from_iterator(_counted(texts, meter), trainer)
    return Tokenizer(inner, special={"bos": eos_token, "eos": eos_token}, where="trained tokenizer")


def _counted(texts: Iterable[str], progress: Progress) -> Iterator[str]:
    count = 0
    for index, text in enumerate(texts):
        _check_text(text, index)
        yield text
        count += len(text)
        progress.advance(1, characters=count)
    if count == 0:
        raise ConfigError(
            "there is no text to train a tokenizer on", hint="check the paths of the dataset"
        )
