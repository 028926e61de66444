"""A language model that goes on from a prompt, and shows what it writes while it does."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from entrenar_common.errors import ConfigError
from entrenar_core import models
from entrenar_core.data.chat_template import ChatTemplate
from entrenar_core.data.load_tokenizer import load_tokenizer
from entrenar_core.data.tokenizer import Tokenizer
from entrenar_core.io.hub import resolve_model
from entrenar_core.models.computing import FLOAT32, computed_in
from entrenar_distill.generation import check_room, encode_prompt, end_ids, load_kernels
from entrenar_distill.texts import load_language_model

__all__ = ["Writer", "Writing", "WritingOptions"]

DEFAULT_TOKENS = 64
_CUT = "\N{REPLACEMENT CHARACTER}"  # what a tokenizer says of bytes that are no whole character


@dataclass(frozen=True)
class WritingOptions:
    """How tokens are chosen and what ends the text, as `entrenar_core.models.generate` has it.
    Without a `max_new_tokens` it is 64, or what the model still has positions for."""

    max_new_tokens: int | None = None
    temperature: float = 0.0
    top_k: int | None = None
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    stop: tuple[str, ...] = ()
    seed: int = 0


@dataclass(frozen=True)
class Writing:
    """What a model wrote after a prompt. `ended` says why it ends: "end" at an end-of-text token,
    "stop" at a text that was to end it, "length" after as many tokens as were asked for. The
    seconds are those of the prompt's tokens and of all new ones together; `compute` names what was
    computed in."""

    model: str
    prompt: str
    text: str
    prompt_tokens: int
    new_tokens: int
    ended: str
    seconds: float
    compute: str

    SCHEMA: ClassVar[str] = "entrenar.distill.generate/1"

    @property
    def summary(self) -> str:
        """One line about it."""
        rate = self.new_tokens / self.seconds if self.seconds else 0.0
        plural = "" if self.new_tokens == 1 else "s"
        return (
            f"{self.new_tokens} token{plural} in {self.seconds:.2f} s, {rate:.1f} tokens/s "
            f"({self.compute})"
        )

    def __view__(self) -> list[Any]:
        from entrenar_common.tables import Text

        return [Text(self.text)]


class Writer:
    """A model and its tokenizer, kept in memory for prompt after prompt; `compute` names what the
    model was loaded to compute in (see `models.computing`)."""

    def __init__(
        self, name: str, model: Any, tokenizer: Tokenizer, *, compute: str = FLOAT32
    ) -> None:
        self.name, self.compute, self._model, self._tokenizer = name, compute, model, tokenizer
        self._ends = end_ids(model, tokenizer)
        with computed_in(compute):
            load_kernels(model)

    @classmethod
    def load(cls, name: str, *, compute: str = FLOAT32) -> Writer:
        """The model called `name`: a folder, a GGUF or APR file, or a model on the hub.

        Raises ConfigError for one that predicts no next token, and what reading it raises.
        """
        path = resolve_model(name)
        tokenizer = load_tokenizer(path)
        hint = "give a model that predicts the next token, such as GPT-2 or LLaMA"
        model = load_language_model(path, hint=hint, compute=compute)
        return cls(name, model, tokenizer, compute=compute)

    def as_question(self, text: str, *, system: str | None = None) -> str:
        """The prompt that the model's chat template makes of a user's message.

        Raises ConfigError for a model without a template, and what rendering it raises.
        """
        source = self._tokenizer.chat_template
        if source is None:
            raise ConfigError(
                f"{self.name} has no chat template", hint="leave --chat out, or use a chat model"
            )
        messages = [{"role": "user", "content": text}]
        if system is not None:
            messages.insert(0, {"role": "system", "content": system})
        with ChatTemplate(source, tokens=self._tokenizer.named_tokens) as template:
            return template.render(messages, add_generation_prompt=True).text

    def write(
        self,
        prompt: str,
        options: WritingOptions,
        *,
        templated: bool = False,
        show: Callable[[str], None] = lambda _text: None,
    ) -> Writing:
        """Go on from `prompt`; `show` gets the text in pieces, as soon as nothing that may still
        come can change them: together they are the text.

        A `templated` prompt has its special tokens in its text. Of an empty prompt, the text begins
        as a document does.

        Raises ConfigError (options out of range, more positions than the model has) and
        NumericsError.
        """
        ids = self._encode(prompt, templated)
        positions = self._model.config.max_position_embeddings
        count = options.max_new_tokens
        if count is None:
            count = max(min(DEFAULT_TOKENS, positions + 1 - len(ids)), 1)
        check_room(self.name, len(ids), count, positions)
        shown = _Shown(self._tokenizer, len(ids), options.stop, self._ends, show)
        started = time.perf_counter()
        with computed_in(self.compute):
            found = models.generate(
                self._model, ids, max_new_tokens=count,
                temperature=options.temperature, top_k=options.top_k, top_p=options.top_p,
                min_p=options.min_p, repetition_penalty=options.repetition_penalty,
                stop=options.stop, seed=options.seed, tokenizer=self._tokenizer,
                eos_ids=self._ends, each=lambda _row, so_far: shown.more(so_far),
            )  # fmt: skip
        seconds = time.perf_counter() - started
        text = shown.all_of(found)
        return Writing(
            model=self.name,
            prompt=prompt,
            text=text,
            prompt_tokens=len(ids),
            new_tokens=len(found) - len(ids),
            ended=self._why(found, len(ids), text),
            seconds=seconds,
            compute=self.compute,
        )

    def _encode(self, prompt: str, templated: bool) -> np.ndarray:
        if templated:
            [(ids, _)] = self._tokenizer.encode_spans([prompt], template=False)
        else:
            ids = encode_prompt(self._tokenizer, prompt)
        if len(ids):
            return ids
        first = self._tokenizer.bos_id
        first = self._tokenizer.eos_id if first is None else first
        if first is None:
            raise ConfigError(
                f"{self.name}: an empty prompt, and no token that begins a text",
                hint="give at least one character",
            )
        return np.array([first], np.int32)

    def _why(self, ids: np.ndarray, prompt: int, text: str) -> str:
        if len(ids) > prompt and int(ids[-1]) in self._ends:
            return "end"
        whole = models.new_text(self._tokenizer, ids, prompt, eos_ids=self._ends)
        return "length" if whole == text else "stop"


class _Shown:
    """What was shown of a text that is still written."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        prompt: int,
        stop: Sequence[str],
        ends: frozenset[int],
        show: Callable[[str], None],
    ) -> None:
        self._tokenizer, self._prompt, self._stop = tokenizer, prompt, stop
        self._ends, self._show = ends, show
        self._length = 0

    def more(self, ids: Sequence[int]) -> None:
        """Show what is certain of the text of `ids`."""
        self._up_to(_certain(self._text(ids), self._stop))

    def all_of(self, ids: Sequence[int] | np.ndarray) -> str:
        """Show the rest of the text of `ids`, and return the whole."""
        text = self._text(ids)
        self._up_to(text)
        return text

    def _text(self, ids: Sequence[int] | np.ndarray) -> str:
        return models.new_text(
            self._tokenizer, ids, self._prompt, stop=self._stop, eos_ids=self._ends
        )

    def _up_to(self, text: str) -> None:
        if len(text) > self._length:
            self._show(text[self._length :])
            self._length = len(text)


def _certain(text: str, stop: Sequence[str]) -> str:
    """`text` without an end that the next token may change: characters that are not whole, and the
    beginning of a string that would end the text.

    >>> _certain("a word.\\n", ["\\n\\n"])
    'a word.'
    """
    text = text.rstrip(_CUT)
    held = 0
    for string in stop:
        for length in range(1, len(string)):
            if text.endswith(string[:length]):
                held = max(held, length)
    return text[: len(text) - held]
