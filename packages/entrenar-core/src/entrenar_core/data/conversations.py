"""A conversation as the text that a model reads, and where in it the answers are.

A template with `{% generation %}` says itself what the answers are. Without, an answer is what the
conversation up to it has more than the conversation before it with the prompt for an answer, where
both are beginnings of the whole text.
"""

from collections.abc import Collection, Sequence
from typing import Any

from entrenar_common.errors import FormatError
from entrenar_common.text import escape_controls
from entrenar_core.data.chat_template import ChatTemplate
from entrenar_core.data.readers import Item, Row, bad, document_of, kind_of

__all__ = ["Spans", "conversation"]

Spans = tuple[tuple[int, int], ...]
"""Characters of a text, from and up to."""

Message = dict[str, Any]

_SHARE_GPT = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "system": "system",
}
"""What `from` says in files of ShareGPT's form, whose messages are {from, value}."""

_ANSWERS = "assistant"


def conversation(
    row: Row, messages: Any, template: ChatTemplate, *, special: Collection[str], answers_only: bool
) -> Item:
    """The document that the `messages` of a row are, or what is wrong with them.

    `special` are the texts of the tokenizer's special tokens. Raises RefusedError.
    """
    try:
        checked = _checked(messages)
        rendered = template.render(checked)
        answers = None
        if answers_only:
            answers = rendered.answers
            if not template.marks_answers:
                answers = _found(checked, template, rendered.text, special)
            answers = tuple((start, end) for start, end in answers if start < end)
            if not answers:
                raise FormatError("there is no answer to learn from: no message of the assistant")
    except FormatError as error:
        return bad(f"{row.name}: {escape_controls(error.message)}")
    return document_of(row, rendered.text, answers)


def _checked(messages: Any) -> list[Message]:
    if not isinstance(messages, list):
        raise FormatError(f"the messages are {kind_of(messages)}, wanted a list")
    if not messages:
        raise FormatError("the list of messages is empty")
    return [_message(message, number) for number, message in enumerate(messages, 1)]


def _message(message: Any, number: int) -> Message:
    if not isinstance(message, dict):
        raise FormatError(f"message {number} is {kind_of(message)}, wanted an object")
    if message.get("role") is None and "from" in message:
        message = _of_share_gpt(message, number)
    if not isinstance(message.get("role"), str):
        raise FormatError(f"message {number} has no role")
    return message


def _of_share_gpt(message: Message, number: int) -> Message:
    speaker = message["from"]
    if not isinstance(speaker, str) or speaker not in _SHARE_GPT:
        raise FormatError(
            f"message {number} is from {speaker!a:.40}, known are {', '.join(_SHARE_GPT)}"
        )
    if "value" not in message:
        raise FormatError(f"message {number} has no value")
    rest = {key: v for key, v in message.items() if key not in ("from", "value")}
    return {"role": _SHARE_GPT[speaker], "content": message["value"], **rest}


def _found(
    messages: Sequence[Message], template: ChatTemplate, whole: str, special: Collection[str]
) -> Spans:
    """The answers of a template that does not mark them."""
    spans: list[tuple[int, int]] = []
    for index, message in enumerate(messages):
        if message["role"] != _ANSWERS:
            continue
        before, after = _around(messages, index, template, whole)
        if not (whole.startswith(after) and after.startswith(before)):
            what = "it" if whole.startswith(after) else "the text up to its end"
            raise FormatError(
                f"answer {len(spans) + 1} (message {index + 1}) cannot be found: the template "
                f"writes what is before {what} differently when more follows. Give a "
                "chat_template with {% generation %} around answers"
            )
        spans.append((len(before), len(before) + _length(after[len(before) :], special)))
    return tuple(spans)


def _around(
    messages: Sequence[Message], index: int, template: ChatTemplate, whole: str
) -> tuple[str, str]:
    """The conversation up to where an answer begins, and up to where it ends."""
    try:
        before = template.render(messages[:index], add_generation_prompt=True).text
        if index + 1 == len(messages):
            return before, whole
        return before, template.render(messages[: index + 1]).text
    except FormatError as error:
        raise FormatError(
            f"the answer in message {index + 1} cannot be found: the template does not render a "
            f"part of the conversation ({error.message}). Give a chat_template with "
            "{% generation %} around answers"
        ) from error


def _length(answer: str, special: Collection[str]) -> int:
    """How much of `answer` a model writes: after the token that ends it nothing, and templates put
    a line's end there."""
    ended = answer.rstrip()
    return len(ended) if ended.endswith(tuple(special)) else len(answer)
