"""The process that renders chat templates: `python -P -m entrenar_core.data.template_worker`.

A chat template is a program that came with a model, and it may be a hostile one. It runs in Jinja's
sandbox, in a process that ends with its work: the system ends it when a rendering takes too much
of the processor or of memory, and it can write no file. So nothing that a template computes, in a
loop or inside one call, has to be foreseen.

A line of JSON says the template, and each line after that what to render; each has an answer of
one line. What templates can use is what transformers documents for `apply_chat_template`.
"""

import contextlib
import json
import re
import resource
import signal
import sys
from collections.abc import Mapping
from datetime import datetime
from typing import Any, NoReturn

from jinja2 import nodes
from jinja2.exceptions import SecurityError, TemplateError, TemplateSyntaxError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Context, Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

_SEQUENCES = (str, bytes, list, tuple)
_SIZES = re.compile(r"%(?:\([^)]*\))?[-+ #0]*(\d+|\*|)(?:\.(\d+|\*))?")
"""The width and the precision of what `%` puts into a text."""
_LARGEST_POWER = 4096  # bits: numbers in prompts are small, and a ** b ** c never ends
_MESSAGE = 400

REFUSED, FAILED, MALFORMED = "refused", "failed", "malformed"
"""What a rendering ended with: it was unsafe, the template could not do it, or is no template."""

_OURS = (SecurityError, MemoryError, RecursionError, OverflowError)
_THEIRS = (
    TemplateError,
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What templates raise: they may call any method of text, numbers, lists and dictionaries."""


class _Generation(Extension):
    """The blocks `{% generation %}`…`{% endgeneration %}`: between them is what a model writes."""

    tags = {"generation"}  # noqa: RUF012 (declared so by Jinja)

    def __init__(self, environment: Any) -> None:
        super().__init__(environment)
        self.used = False
        self.written = 0
        self.blocks: list[tuple[int, str]] = []

    def parse(self, parser: Parser) -> nodes.Node:
        self.used = True
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_block"), [], [], body).set_lineno(line)

    def _block(self, caller: Any) -> Any:
        text = caller()
        self.blocks.append((self.written, text))
        return text


class _Environment(ImmutableSandboxedEnvironment):
    """Jinja's sandbox, in which an access that is not safe ends the rendering at once."""

    intercepted_binops = frozenset({"*", "**", "%", "+"})
    largest = 0
    """How long a text or a list may become by an operator."""

    def unsafe_undefined(self, obj: Any, attribute: str) -> Undefined:
        raise SecurityError(f"it accesses {attribute!a} of a {type(obj).__name__}")

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        if operator in _LIMITS:
            _LIMITS[operator](self, left, right)
        result = super().call_binop(context, operator, left, right)
        self.check_size(operator, len(result) if isinstance(result, _SEQUENCES) else 0)
        return result

    def check_size(self, operator: str, size: int) -> None:
        if size > self.largest:
            raise SecurityError(f"{operator} makes {size} characters or items")

    def check_product(self, left: Any, right: Any) -> None:
        for many, count in ((left, right), (right, left)):
            if isinstance(many, _SEQUENCES) and isinstance(count, int):
                self.check_size("*", len(many) * max(0, count))

    def check_sum(self, left: Any, right: Any) -> None:
        if isinstance(left, _SEQUENCES) and isinstance(right, _SEQUENCES):
            self.check_size("+", len(left) + len(right))

    def check_power(self, left: Any, right: Any) -> None:
        if isinstance(left, int) and isinstance(right, int):
            bits = left.bit_length() * right
            if bits > _LARGEST_POWER:
                raise SecurityError(f"** makes a number of {bits} bits")

    def check_format(self, left: Any, right: Any) -> None:
        """Of text formatted by `%`, widths and precisions, also those that are given as `*`."""
        if isinstance(left, str):
            given = right if isinstance(right, tuple) else (right,)
            named = [size for found in _SIZES.findall(left) for size in found]
            sizes = [int(size[:19]) for size in named if size not in ("", "*")]
            if "*" in named:
                sizes += [n for n in given if isinstance(n, int)]
            self.check_size("%", max(sizes, default=0))


_LIMITS = {
    "*": _Environment.check_product,
    "+": _Environment.check_sum,
    "**": _Environment.check_power,
    "%": _Environment.check_format,
}


class _Dict:
    """What `dict` is in a template: its two ways to make one, and no class to go on from."""

    def __call__(self, *args: Any, **named: Any) -> dict[Any, Any]:
        return dict(*args, **named)

    def fromkeys(self, *args: Any) -> dict[Any, Any]:
        return dict.fromkeys(*args)


class _Namespace(Namespace):
    """Jinja's namespace, without names that begin with an underscore."""

    def __init__(*args: Any, **named: Any) -> None:  # so that `self` can be one of the names
        self, *values = args
        found = dict(*values, **named)
        for name in found:
            _check_name(name)
        Namespace.__init__(self, found)

    def __setitem__(self, name: str, value: Any) -> None:
        _check_name(name)
        super().__setitem__(name, value)


def _check_name(name: Any) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise SecurityError(f"it sets {name!a} of a namespace")


def _raise_exception(message: Any) -> NoReturn:
    raise TemplateError(str(message))


def _strftime_now(format: str) -> str:  # noqa: A002 (templates may give it by name)
    return datetime.now().strftime(format)  # the local time, as in transformers


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | str | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON as it is: Jinja's own filter escapes what HTML gives a meaning to."""
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


class _Worker:
    """One compiled template, and how it may be run."""

    def __init__(self, setup: Mapping[str, Any]) -> None:
        self.seconds, self.size = setup["seconds"], setup["bytes"]
        self.environment = environment = _Environment(
            trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
        )
        environment.largest = self.size
        environment.filters["tojson"] = _to_json
        environment.globals |= {
            "dict": _Dict(),
            "namespace": _Namespace,
            "raise_exception": _raise_exception,
            "strftime_now": _strftime_now,
        }
        found = environment.extensions[_Generation.identifier]
        assert isinstance(found, _Generation)
        self.generation = found
        with _timed(self.seconds):
            self.template = environment.from_string(setup["template"])

    def render(self, request: Mapping[str, Any]) -> dict[str, Any]:
        marks, pieces = self.generation, list[str]()
        marks.written, marks.blocks = 0, []
        with _timed(self.seconds):
            for piece in self.template.generate(**request):
                pieces.append(piece)
                marks.written += len(piece)
                self._check(marks.written)
            text = "".join(pieces)
            self._check(len(text.encode("utf-8", "surrogatepass")))
        answers = [(start, start + len(block)) for start, block in marks.blocks]
        for (start, end), (_, block) in zip(answers, marks.blocks, strict=True):
            if text[start:end] != block:
                raise TemplateError(
                    "a {% generation %} block is inside a macro, a {% set %} or another such "
                    "block, so where its text begins is not known"
                )
        return {"text": text, "answers": answers}

    def _check(self, size: int) -> None:
        if size > self.size:
            raise SecurityError(f"it writes more than {self.size} bytes")


@contextlib.contextmanager
def _timed(seconds: float) -> Any:
    """Ends this process when it computes for longer, inside whatever call it may be."""
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _limit_process(memory: int) -> None:
    signal.signal(signal.SIGPROF, signal.SIG_DFL)  # it ends the process, and might be ignored
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGPROF})
    for kind, most in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        with contextlib.suppress(ValueError, OSError):  # less was allowed already
            resource.setrlimit(kind, (most, most))


def _tried(function: Any, argument: Any) -> Any:
    """What `function` returns, or what it ended with, as an answer."""
    try:
        return function(argument)
    except TemplateSyntaxError as error:
        return {MALFORMED: f"line {error.lineno}: {error.message}"[:_MESSAGE]}
    except _OURS as error:
        why = {MemoryError: "it needs too much memory", RecursionError: "it recurses too deeply"}
        return {REFUSED: why.get(type(error), str(error))[:_MESSAGE]}
    except _THEIRS as error:
        return {FAILED: (str(error) or type(error).__name__)[:_MESSAGE]}


def _serve() -> None:
    setup = json.loads(sys.stdin.readline())
    _limit_process(setup["memory"])
    worker = _tried(_Worker, setup)
    ready = isinstance(worker, _Worker)
    _say({"marks": worker.generation.used} if ready else worker)
    if ready:
        for line in sys.stdin:
            _say(_tried(worker.render, json.loads(line)))


def _say(answer: Mapping[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    _serve()
