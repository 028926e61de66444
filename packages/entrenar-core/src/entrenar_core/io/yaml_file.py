"""YAML configuration files as plain data, with the line that every value came from.

Scalars follow the core schema of YAML 1.2: `1e-4` is a number, `NO` and `on` are text, `010` is
ten, dates stay text. What makes YAML dangerous is refused: tags that name types, aliases that
expand without end, nesting without end, and keys given twice. Source: YAML 1.2.2, section 10.3.
"""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import yaml

from entrenar_common.errors import ConfigError, RefusedError
from entrenar_common.text import escape_controls
from entrenar_core.io.files import read_text

__all__ = ["Located", "parse_value", "parse_yaml", "read_yaml"]

MAX_BYTES = 2**20
MAX_DEPTH = 64
MAX_VALUES = 100_000
# Text counts as one value more for every so many characters: behind aliases it is a bomb too.
CHARACTERS_PER_VALUE = 32

KeyPath = tuple[str | int, ...]

_TAG = "tag:yaml.org,2002:"
_NULLS = frozenset(["", "~", "null", "Null", "NULL"])
_BOOLS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}


def _integer(text: str) -> int:
    if text.startswith(("0x", "0o")):
        return int(text, 0)
    return int(text)  # ValueError beyond 4,300 digits, Python's own guard


def _float(text: str) -> float:
    # YAML's .inf and .nan, with a dot that Python does not write.
    return float(re.sub(r"^([-+]?)\.(inf|nan)$", r"\1\2", text, flags=re.IGNORECASE))


def _null(text: str) -> None:
    if text not in _NULLS:
        raise ValueError(text)


_SCALARS: dict[str, Callable[[str], Any]] = {
    _TAG + "str": str,
    _TAG + "null": _null,
    _TAG + "bool": _BOOLS.__getitem__,
    _TAG + "int": _integer,
    _TAG + "float": _float,
}
_RULES: list[tuple[str, re.Pattern[str]]] = [
    (_TAG + "null", re.compile(r"(?:~|null|Null|NULL|)\Z")),
    (_TAG + "bool", re.compile(r"(?:true|True|TRUE|false|False|FALSE)\Z")),
    (_TAG + "int", re.compile(r"(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)\Z")),
    (
        _TAG + "float",
        re.compile(
            r"(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"
            r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))\Z"
        ),
    ),
]


def _plain_tag(text: str) -> str:
    return next((tag for tag, pattern in _RULES if pattern.match(text)), _TAG + "str")


@dataclass(frozen=True)
class Located:
    """Plain data (dict, list, str, int, float, bool, None) that knows where its parts were written.

    `name` is what messages call the source. `lines` maps the path of a value, such as
    `("training", "epochs")`, to its line counted from 1; `origins` names other places that values
    came from, such as a command-line option, and wins over `lines`.
    """

    name: str
    data: Any
    lines: Mapping[KeyPath, int] = field(default_factory=lambda: MappingProxyType({}))
    origins: Mapping[KeyPath, str] = field(default_factory=lambda: MappingProxyType({}))

    def line_of(self, path: KeyPath) -> int | None:
        """The line of the value at `path`, or None where the file has no such value."""
        return self.lines.get(tuple(path))

    def where(self, path: KeyPath) -> str:
        """Where to look for the value at `path`: "line 4", "--set a.b" or "" when nothing is known.

        A value that is absent is looked for in the nearest section that is there.
        """
        path = tuple(path)
        for length in range(len(path), 0, -1):
            part = path[:length]
            if part in self.origins:
                return self.origins[part]
            if part in self.lines:
                return f"line {self.lines[part]}"
            for key, origin in self.origins.items():
                if length == len(path) and key[:length] == part:
                    return origin
        return ""


def read_yaml(path: str | os.PathLike[str]) -> Located:
    """The one document of the YAML file at `path`; an empty file gives None.

    Raises NotFoundError when there is no such file or it is no regular file, FormatError when it
    is no UTF-8 or larger than 1 MiB, RefusedError when it is unsafe, StorageError when it cannot be
    read, and ConfigError ("path:line:column: ...") when it is not YAML.
    """
    return parse_yaml(read_text(path, max_bytes=MAX_BYTES), escape_controls(os.fspath(path)))


def parse_yaml(text: str, name: str = "<text>") -> Located:
    """The one document in `text`; `name` is what messages call it. Raises as `read_yaml` does.

    >>> parse_yaml("training:\\n  learning_rate: 1e-4").data
    {'training': {'learning_rate': 0.0001}}
    """
    root = _compose(text, name)
    reader = _Reader(name)
    data = None if root is None else reader.value(root, ())
    return Located(name, data, MappingProxyType(reader.lines))


def parse_value(text: str) -> Any:
    """A value given on a command line: a scalar, or a list or mapping in YAML's flow style.

    Anything that does not begin with a bracket or a quote is one scalar, so that `*.py` and `a: b`
    need no quotes. Raises ConfigError when a list, mapping or quoted text does not parse.

    >>> parse_value("1e-3"), parse_value("[0, 2]"), parse_value("*.py")
    (0.001, [0, 2], '*.py')
    """
    text = text.strip()
    if text[:1] in ("[", "{", '"', "'"):
        return parse_yaml(text, "value").data
    tag = _plain_tag(text)
    try:
        return _SCALARS[tag](text)
    except ValueError as error:
        raise _unreadable("value", text, tag) from error


def _compose(text: str, name: str) -> yaml.Node | None:
    try:
        composer = _Composer(text, name)
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        line, column = before.count("\n"), len(before) - before.rfind("\n") - 1
        raise _syntax_error(name, line, column, "a control character is not allowed") from error
    try:
        return composer.get_single_node()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark or composer.get_mark()
        problem = ", ".join(part for part in (error.context, error.problem) if part)
        raise _syntax_error(name, mark.line, mark.column, problem) from error
    except (ValueError, OverflowError) as error:  # PyYAML hands "\\UFFFFFFFF" on to chr()
        mark = composer.get_mark()
        raise _syntax_error(name, mark.line, mark.column, "no such character") from error


def _syntax_error(name: str, line: int, column: int, problem: str) -> ConfigError:
    hint = "check the indentation, the colons and the quotes there"
    if "\\t" in problem:
        hint = "indent with spaces: YAML does not allow tabs"
    elif "alias" in problem:
        hint = "put quotes around a text that begins with an asterisk"
    elif "single document" in problem:
        hint = "keep one document: remove what follows the line ---"
    text = escape_controls(problem)
    return ConfigError(f"{name}:{line + 1}:{column + 1}: {text}", hint=hint)


def _place(name: str, mark: yaml.Mark) -> str:
    return f"{name}:{mark.line + 1}:{mark.column + 1}"


class _Composer(yaml.SafeLoader):
    """Text to nodes, with the scalar rules of YAML 1.2 and limits on nesting and size."""

    def __init__(self, text: str, name: str) -> None:
        super().__init__(text)
        self.source_name = name
        self.depth = 0
        self.values = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        self.depth += 1
        self.values += 1
        if self.depth > MAX_DEPTH or self.values > MAX_VALUES:
            place = _place(self.source_name, self.peek_event().start_mark)
            raise _too_much(place, deep=self.depth > MAX_DEPTH)
        node = super().compose_node(parent, index)
        if isinstance(node, yaml.ScalarNode):
            node.value.encode()  # half a surrogate pair ("\\uD800") could not be printed or stored
        self.depth -= 1
        return node

    def resolve(self, kind: Any, value: Any, implicit: Any) -> str:
        if kind is yaml.ScalarNode:
            return _plain_tag(value) if implicit[0] else _TAG + "str"
        return _TAG + ("seq" if kind is yaml.SequenceNode else "map")


def _too_much(place: str, *, deep: bool) -> RefusedError:
    if deep:
        return RefusedError(
            f"{place}: more than {MAX_DEPTH} levels of nesting", hint="flatten the file"
        )
    return RefusedError(
        f"{place}: more than {MAX_VALUES:,} values once aliases are written out",
        hint="use fewer aliases (*name)",
    )


@dataclass
class _Reader:
    """Nodes to plain data; aliases are written out, so the values made are counted again."""

    name: str
    lines: dict[KeyPath, int] = field(default_factory=dict)
    values: int = 0

    def value(self, node: yaml.Node, path: KeyPath) -> Any:
        self.values += 1
        if self.values > MAX_VALUES or len(path) > MAX_DEPTH:
            raise _too_much(_place(self.name, node.start_mark), deep=len(path) > MAX_DEPTH)
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node)
        if isinstance(node, yaml.SequenceNode) and node.tag == _TAG + "seq":
            return [self._item(item, (*path, i)) for i, item in enumerate(node.value)]
        if isinstance(node, yaml.MappingNode) and node.tag == _TAG + "map":
            return self._mapping(node, path)
        raise self._unknown_tag(node)

    def _item(self, node: yaml.Node, path: KeyPath) -> Any:
        self.lines[path] = node.start_mark.line + 1
        return self.value(node, path)

    def _mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, Any]:
        data: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = self._key(key_node)
            member = (*path, key)
            if key in data:
                raise ConfigError(
                    f"{_place(self.name, key_node.start_mark)}: {escape_controls(key)} is given "
                    f"twice (first on line {self.lines[member]})",
                    hint="keep one of the two",
                )
            self.lines[member] = key_node.start_mark.line + 1
            data[key] = self.value(value_node, member)
        return data

    def _key(self, node: yaml.Node) -> str:
        # As in JSON, keys are text: `0: cat` and `"0": cat` are the same.
        if node.tag not in _SCALARS and node.tag not in (_TAG + "seq", _TAG + "map"):
            raise self._unknown_tag(node)
        if not isinstance(node, yaml.ScalarNode):
            raise ConfigError(
                f"{_place(self.name, node.start_mark)}: a key must be text",
                hint="put quotes around text that contains brackets",
            )
        return node.value

    def _scalar(self, node: yaml.ScalarNode) -> Any:
        convert = _SCALARS.get(node.tag)
        if convert is None:
            raise self._unknown_tag(node)
        self.values += len(node.value) // CHARACTERS_PER_VALUE
        try:
            return convert(node.value)
        except (ValueError, KeyError) as error:
            raise _unreadable(_place(self.name, node.start_mark), node.value, node.tag) from error

    def _unknown_tag(self, node: yaml.Node) -> RefusedError:
        tag = escape_controls(node.tag.replace(_TAG, "!!"))
        return RefusedError(
            f"{_place(self.name, node.start_mark)}: the tag {tag} is not allowed",
            hint="write plain values: text, numbers, true, false, null, lists and mappings",
        )


def _unreadable(place: str, text: str, tag: str) -> ConfigError:
    shown = escape_controls(text if len(text) <= 40 else text[:37] + "...")
    kind = tag.removeprefix(_TAG)
    return ConfigError(f"{place}: cannot read {shown} as {kind}", hint="write a plain value")
