"""Rows that are more than one text: conversations, completions, texts with labels."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from entrenar_core.data.chat_template import ChatTemplate
from entrenar_core.data.conversations import Spans, conversation
from entrenar_core.data.readers import Document, Item, Row, bad, document_of, kind_of
from entrenar_core.data.tokenizer import Ids, Tokenizer

__all__ = [
    "Completions",
    "Conversations",
    "Convert",
    "RowKind",
    "TextsBeside",
    "answer_mask",
]

Convert = Callable[[Row], Item]
Mask = npt.NDArray[np.bool_]


class RowKind(Protocol):
    """What the rows of a dataset are, and how a document is made of one.

    answers_only: only the answers are trained on
    closed: documents end by themselves: the tokens that are put around a text, and an EOS after
            it, are the template's to write
    """

    @property
    def answers_only(self) -> bool: ...
    @property
    def closed(self) -> bool: ...

    def fields(self) -> dict[str, str]:
        """The fields of a row, by the setting that names each."""
        ...

    def key(self, tokenizer: Tokenizer) -> Any:
        """JSON data that differs where the documents do."""
        ...

    def opened(self, tokenizer: Tokenizer) -> AbstractContextManager[Convert]:
        """What makes a document of a row, while the context lasts."""
        ...


@dataclass(frozen=True)
class Conversations:
    """Rows with a list of messages, rendered by the tokenizer's chat template or by `template`."""

    messages_field: str = "messages"
    template: str | None = None
    answers_only: bool = True
    closed: bool = True

    def fields(self) -> dict[str, str]:
        return {"messages_field": self.messages_field}

    def key(self, tokenizer: Tokenizer) -> Any:
        source = tokenizer.chat_template if self.template is None else self.template
        named = sorted(tokenizer.named_tokens.items())
        rendering = [version("jinja2"), source, named]
        return ["chat", self.messages_field, self.answers_only, rendering]

    @contextmanager
    def opened(self, tokenizer: Tokenizer) -> Iterator[Convert]:
        special = tokenizer.special_tokens
        with ChatTemplate.of(tokenizer, self.template) as template:
            yield lambda row: conversation(
                row,
                row.values[self.messages_field],
                template,
                special=special,
                answers_only=self.answers_only,
            )


@dataclass(frozen=True)
class Completions:
    """Rows with two texts, of which the second goes on from the first."""

    prompt_field: str = "prompt"
    completion_field: str = "completion"
    answers_only: bool = True
    closed: bool = False

    def fields(self) -> dict[str, str]:
        return {"prompt_field": self.prompt_field, "completion_field": self.completion_field}

    def key(self, tokenizer: Tokenizer) -> Any:
        del tokenizer  # which is a part of every key
        return ["completion", self.prompt_field, self.completion_field, self.answers_only]

    @contextmanager
    def opened(self, tokenizer: Tokenizer) -> Iterator[Convert]:
        del tokenizer
        yield self._document

    def _document(self, row: Row) -> Item:
        for field in (self.prompt_field, self.completion_field):
            if not isinstance(row.values[field], str):
                kind = kind_of(row.values[field])
                return bad(f"{row.name}: field {field!a} is {kind}, wanted text")
        prompt, completion = row.values[self.prompt_field], row.values[self.completion_field]
        if not completion:
            return bad(f"{row.name}: field {self.completion_field!a} is empty")
        text = prompt + completion
        answers: Spans | None = ((len(prompt), len(text)),) if self.answers_only else None
        return document_of(row, text, answers)


@dataclass(frozen=True)
class TextsBeside:
    """Rows with a text, and other fields `beside` it, by the settings that name them: texts or
    whole numbers, or with `any_number` also numbers that are not whole, true and false."""

    text_field: str
    beside: tuple[tuple[str, str], ...]
    any_number: bool = False
    answers_only: bool = False
    closed: bool = False

    def fields(self) -> dict[str, str]:
        return {"text_field": self.text_field, **dict(self.beside)}

    def key(self, tokenizer: Tokenizer) -> Any:
        del tokenizer  # which is a part of every key
        return ["beside", self.text_field, self.beside, self.any_number]

    @contextmanager
    def opened(self, tokenizer: Tokenizer) -> Iterator[Convert]:
        del tokenizer
        yield self._document

    def _document(self, row: Row) -> Item:
        text = row.values[self.text_field]
        if not isinstance(text, str):
            return bad(f"{row.name}: field {self.text_field!a} is {kind_of(text)}, wanted text")
        values = [row.values[field] for _, field in self.beside]
        for (_, field), value in zip(self.beside, values, strict=True):
            if type(value) not in ((str, int, float, bool) if self.any_number else (str, int)):
                wanted = "number" if self.any_number else "whole number"
                return bad(
                    f"{row.name}: field {field!a} is {kind_of(value)}, wanted text or a {wanted}"
                )
        found = document_of(row, text, None)
        return replace(found, beside=tuple(values)) if isinstance(found, Document) else found


def answer_mask(offsets: Ids, answers: Spans) -> Mask:
    """Which tokens are of the `answers`, (n,), from the characters (n, 2) that each token is of.

    For each answer these are the first and the last token with a character of it, and all between;
    a token of spaces may be of no character, and is where its two numbers, which are equal, say.
    transformers' `assistant_masks` are the same, but where an answer begins or ends with a
    character that is of no token or of several: there it takes too many or too few.
    """
    mask = np.zeros(len(offsets), np.bool_)
    first, last = offsets.T
    for start, end in answers:
        inside = (first < end) & (last > start) & (first < last)
        inside |= (first == last) & (first > start) & (first <= end)
        inside = np.flatnonzero(inside)
        if len(inside):
            mask[inside[0] : inside[-1] + 1] = True
    return mask
