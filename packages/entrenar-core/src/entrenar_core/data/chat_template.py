"""Chat templates: text out of messages, as `apply_chat_template` of transformers makes it."""

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, NoReturn

from entrenar_common.errors import EntrenarError, FormatError, RefusedError, StorageError
from entrenar_core.data.tokenizer import Tokenizer

__all__ = ["MAX_SECONDS", "MAX_SOURCE_BYTES", "MAX_TEXT_BYTES", "ChatTemplate", "Rendered"]

MAX_SOURCE_BYTES = 256 * 2**10
MAX_TEXT_BYTES = 8 * 2**20
MAX_SECONDS = 2.0
"""Of the processor, for compiling a template and for each rendering."""

_MEMORY = 2**30
_WORKER = "entrenar_core.data.template_worker"
_HINT = "a chat template comes with the model and is not trusted: give one of your own"

# The older names of what a model thinks before it answers, and the one that templates read.
_REASONING = ("reasoning_content", "thinking", "reasoning")


@dataclass(frozen=True)
class Rendered:
    """A conversation as text; `answers` are the characters, from and up to, that the template
    marks with `{% generation %}`."""

    text: str
    answers: tuple[tuple[int, int], ...]


class ChatTemplate:
    """A compiled chat template; `tokens` are its variables, such as `eos_token`.

    It runs in a process of its own, with limits on its time, its memory and its output, which
    `close`, or the end of a `with`, stops. `where` is what error messages call it.

    Raises RefusedError (too large, unsafe, beyond a limit) and FormatError (not a template).

    >>> with ChatTemplate("{% for m in messages %}{{ m.role }}: {{ m.content }}\\n{% endfor %}",
    ...                   tokens={}) as template:
    ...     template.render([{"role": "user", "content": "Hi"}]).text
    'user: Hi\\n'
    """

    def __init__(
        self, source: str, *, tokens: Mapping[str, str], where: str = "chat template"
    ) -> None:
        self.source, self.where, self._tokens = source, where, dict(tokens)
        self._lock = threading.Lock()
        size = len(source.encode("utf-8", "surrogatepass"))
        if size > MAX_SOURCE_BYTES:
            self._refuse(f"{size} bytes, the limit is {MAX_SOURCE_BYTES}")
        self._process = _started()
        setup = {"template": source, "seconds": MAX_SECONDS, "bytes": MAX_TEXT_BYTES}
        try:
            self.marks_answers: bool = self._ask(setup | {"memory": _MEMORY}, "")["marks"]
        except EntrenarError:
            self.close()
            raise

    @classmethod
    def of(cls, tokenizer: Tokenizer, source: str | None = None) -> "ChatTemplate":
        """The template of a tokenizer with its special tokens, or with these another template.

        Raises FormatError when the tokenizer has none, besides what making one raises.
        """
        source = tokenizer.chat_template if source is None else source
        if source is None:
            raise FormatError(
                f"{tokenizer.where}: there is no chat template beside it",
                hint="name the file of one as dataset.chat_template",
            )
        return cls(source, tokens=tokenizer.named_tokens, where=f"{tokenizer.where}: chat template")

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = False,
    ) -> Rendered:
        """The text of a conversation; with `add_generation_prompt`, and the beginning of an answer.

        As transformers does, it leaves out what is null in a message, and gives the reasoning of an
        answer all of its usual names. Messages and tools are what JSON can say.

        Raises FormatError when the template cannot render them, and RefusedError.
        """
        variables = {
            **self._tokens,
            "messages": [_plain(message) for message in messages],
            "tools": tools,
            "documents": None,
            "add_generation_prompt": add_generation_prompt,
        }
        found = self._ask(variables, " for these messages")
        return Rendered(found["text"], tuple((start, end) for start, end in found["answers"]))

    def close(self) -> None:
        """End the process; nothing can be rendered after that."""
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            try:
                stream.close()
            except OSError:  # what was to be written to a process that has ended
                continue
        self._process.kill()
        self._process.wait()

    def __enter__(self) -> "ChatTemplate":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _ask(self, request: Mapping[str, Any], about: str) -> dict[str, Any]:
        try:
            line = json.dumps(request, allow_nan=False) + "\n"
        except (TypeError, ValueError, RecursionError) as error:
            raise FormatError(
                f"{self.where}: the messages cannot be written as JSON: {error}",
                hint="messages have text, numbers, lists and objects",
            ) from error
        with self._lock:
            answer = self._exchange(line)
        if not answer:
            self._refuse(_end(self._process.wait()) + about)
        found: dict[str, Any] = json.loads(answer)
        if "refused" in found:
            self._refuse(found["refused"] + about)
        for kind, hint in _PROBLEMS.items():
            if kind in found:
                raise FormatError(f"{self.where}: {found[kind]}", hint=hint)
        return found

    def _exchange(self, line: str) -> str:
        """What the process answers, nothing when it ends instead."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(line)
            self._process.stdin.flush()
            return self._process.stdout.readline()
        except BrokenPipeError:
            return ""

    def _refuse(self, why: str) -> NoReturn:
        raise RefusedError(f"{self.where}: refused: {why}", hint=_HINT)


def _started() -> "subprocess.Popen[str]":
    try:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", _WORKER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            encoding="ascii",
            start_new_session=True,  # Ctrl-C is for the parent to handle
        )
    except OSError as error:
        raise StorageError(
            f"the process that renders chat templates cannot be started: {error}",
            hint="it is another Python, which needs some memory: end other programs",
        ) from error


_PROBLEMS = {
    "malformed": "it is not a Jinja template that can be read: give another one",
    "failed": "repair the messages, or give a template that has a place for them",
}


def _end(code: int) -> str:
    if code == -signal.SIGPROF:
        return f"it takes more than {MAX_SECONDS:g} s"
    return f"it ended its process (code {code})"


def _plain(message: Mapping[str, Any]) -> dict[str, Any]:
    """A message as transformers hands it to a template."""
    found = {key: value for key, value in message.items() if value is not None}
    reasoning = next((found[key] for key in _REASONING if key in found), None)
    if reasoning is None:
        return found
    return {"thinking": reasoning, **found, "reasoning_content": reasoning}
