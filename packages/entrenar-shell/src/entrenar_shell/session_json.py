"""Sessions as JSON has them, in both directions.

    {"schema": "entrenar.shell.session/1", "name": …, "models": [{"name": …, "source": …}, …],
     "settings": [[name, value], …], "entries": [{"number": 1, "line": …, "plain": [[…]], …}, …]}

The fields are those of the records in `session.py`. A text that is not Unicode, such as a file name
in Latin-1, is `{"bytes": "hexadecimal"}`, and a figure that is no finite number "nan", "inf" or
"-inf". A field that is missing, unknown or of another type is an error: whatever is added to a
session gets another number after the schema's slash, so a file with other fields of this schema is
not one that the shell has written. Strings are kept as they are and nothing in them is carried out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from entrenar_common.errors import FormatError, UnsupportedError
from entrenar_common.text import escape_controls
from entrenar_shell.session import Entry, FileState, LoadedModel, Session

__all__ = ["SCHEMA", "session_from_json", "session_to_json"]

_KIND, _VERSION = "entrenar.shell.session", 1
SCHEMA = f"{_KIND}/{_VERSION}"
_NOT_FINITE = ("nan", "inf", "-inf")


class _Wrong(ValueError):
    """Raised below where what is read is no session; the path is not known there."""


# ---- to JSON -----------------------------------------------------------------------------------


def session_to_json(session: Session) -> dict[str, Any]:
    """A session as a value that `json` can write."""
    return {
        "schema": SCHEMA,
        "name": session.name,
        "models": [
            {"name": _said(model.name), "source": _said(model.source)}
            for model in session.models.values()
        ],
        "settings": [[_said(name), _said(value)] for name, value in session.settings.items()],
        "entries": [_entry(entry) for entry in session.entries],
    }


def _entry(entry: Entry) -> dict[str, Any]:
    return {
        "number": entry.number,
        "line": _said(entry.line),
        "plain": [[_said(word) for word in line] for line in entry.plain],
        "folder": _said(entry.folder),
        "started": entry.started,
        "seconds": entry.seconds,
        "code": entry.code,
        "inputs": [_state(state) for state in entry.inputs],
        "outputs": [_state(state) for state in entry.outputs],
        "metrics": [[_said(name), _figure(value)] for name, value in entry.metrics.items()],
    }


def _state(state: FileState) -> dict[str, Any]:
    return {"path": _said(state.path), "size": state.size, "changed": state.changed}


def _said(text: str) -> Any:
    try:
        text.encode()
    except UnicodeEncodeError:
        return {"bytes": text.encode(errors="surrogatepass").hex()}
    return text


def _figure(value: float) -> float | str:
    return float(value) if math.isfinite(value) else str(float(value))


# ---- from JSON ---------------------------------------------------------------------------------


def session_from_json(data: Any, path: str) -> Session:
    """The session that is the JSON `data` of the file `path`.

    Raises UnsupportedError when a newer release has written it, and FormatError, which says where,
    when it is no session.
    """
    _check_schema(data, path)
    try:
        fields = _record(data, "session", _SESSION)
    except (_Wrong, UnicodeDecodeError, OverflowError) as error:
        raise FormatError(f"{path}: not a session: {error}", hint=_HINT) from error
    return Session(**fields)


_HINT = "give another name by --session; what was typed is in the history too"


def _check_schema(data: Any, path: str) -> None:
    schema = data.get("schema") if isinstance(data, dict) else None
    kind, _, version = schema.rpartition("/") if isinstance(schema, str) else ("", "", "")
    numbered = version.isascii() and version.isdigit() and len(version) < 10
    if kind != _KIND or not numbered:
        raise FormatError(f"{path}: not a session of entrenar-shell", hint=_HINT)
    if int(version) != _VERSION:
        raise UnsupportedError(
            f"{path}: a session of version {int(version)}; this release reads {_VERSION}",
            hint="use the release of entrenar that wrote it, or give another name by --session",
        )


Reader = Callable[[Any, str], Any]


def _record(value: Any, where: str, readers: Mapping[str, Reader]) -> dict[str, Any]:
    """The fields of an object, each read by its reader, which also says what there may be."""
    if not isinstance(value, dict):
        raise _Wrong(f"{where} is not an object")
    if missing := [name for name in readers if name not in value]:
        raise _Wrong(f"{where} lacks {', '.join(missing)}")
    if unknown := [name for name in value if name not in readers and name != "schema"]:
        raise _Wrong(f"{where} has the unknown field {escape_controls(unknown[0][:40])!r}")
    return {name: reader(value[name], f"{where}.{name}") for name, reader in readers.items()}


def _text(value: Any, where: str) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, dict) and list(value) == ["bytes"] and isinstance(value["bytes"], str):
        try:
            return bytes.fromhex(value["bytes"]).decode(errors="surrogatepass")
        except ValueError:
            raise _Wrong(f"{where} has no hexadecimal bytes of a text") from None
    raise _Wrong(f"{where} is no text")


def _whole(value: Any, where: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise _Wrong(f"{where} is no whole number")
    return value


def _number(value: Any, where: str) -> float:
    if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    raise _Wrong(f"{where} is no number")


def _metric(value: Any, where: str) -> float:
    return float(value) if value in _NOT_FINITE else _number(value, where)


def _list(reader: Reader) -> Reader:
    def read(value: Any, where: str) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise _Wrong(f"{where} is no list")
        return tuple(reader(item, f"{where}[{i}]") for i, item in enumerate(value))

    return read


def _pairs(reader: Reader) -> Reader:
    """Of a list of names with their values, each name once."""

    def pair(value: Any, where: str) -> tuple[str, Any]:
        if not isinstance(value, list) or len(value) != 2:
            raise _Wrong(f"{where} is no pair")
        return _text(value[0], where), reader(value[1], where)

    def read(value: Any, where: str) -> dict[str, Any]:
        found = _list(pair)(value, where)
        return _by_name(found, where)

    return read


def _by_name(pairs: tuple[tuple[str, Any], ...], where: str) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _Wrong(f"{where} has a name twice")
    return found


def _model(value: Any, where: str) -> LoadedModel:
    return LoadedModel(**_record(value, where, {"name": _text, "source": _text}))


def _models(value: Any, where: str) -> dict[str, LoadedModel]:
    found = _list(_model)(value, where)
    return _by_name(tuple((model.name, model) for model in found), where)


def _file_state(value: Any, where: str) -> FileState:
    return FileState(**_record(value, where, {"path": _text, "size": _whole, "changed": _whole}))


_ENTRY: dict[str, Reader] = {
    "number": _whole,
    "line": _text,
    "plain": _list(_list(_text)),
    "folder": _text,
    "started": _number,
    "seconds": _number,
    "code": _whole,
    "inputs": _list(_file_state),
    "outputs": _list(_file_state),
    "metrics": _pairs(_metric),
}


def _read_entry(value: Any, where: str) -> Entry:
    return Entry(**_record(value, where, _ENTRY))


def _entries(value: Any, where: str) -> list[Entry]:
    return list(_list(_read_entry)(value, where))


_SESSION: dict[str, Reader] = {
    "name": _text,
    "models": _models,
    "settings": _pairs(_text),
    "entries": _entries,
}
