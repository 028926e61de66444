"""Strict reading of text and JSON: UTF-8 only, no duplicate keys, no NaN, bounded in all ways."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from entrenar_common.errors import FormatError, NotFoundError
from entrenar_core.io.os_calls import read_errors

MAX_JSON_BYTES = 64 * 2**20
MAX_JSON_DEPTH = 64
_PIECE = 2**20
MAX_INTEGER_DIGITS = 19  # CPython takes quadratic time on long integers; 2⁶³ has 19 digits

_REWRITE = "the file is damaged or was written by something else: fetch or write it again"
LFS_POINTER = "version https://git-lfs.github.com/spec/"
LFS_HINT = "run: git lfs pull"


class _Refused(ValueError):
    """Raised by the hooks below, where the path is not known."""


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise _Refused(f"duplicate key {key!a}")
            seen.add(key)
    return found


def _integer(text: str) -> int:
    if len(text.lstrip("-")) > MAX_INTEGER_DIGITS:
        raise _Refused(f"an integer of {len(text)} digits (at most {MAX_INTEGER_DIGITS})")
    return int(text)


def _no_constant(text: str) -> NoReturn:
    raise _Refused(f"{text} is not JSON")


def parse_json(
    text: str,
    path: str | os.PathLike[str],
    *,
    parse_float: Callable[[str], Any] = float,
    parse_int: Callable[[str], Any] = _integer,
) -> Any:
    """The value of JSON `text`, which came from `path`; what is not strictly JSON: FormatError."""
    if text.startswith(LFS_POINTER):
        raise FormatError(f"{path}: this is a Git LFS pointer, not the file itself", hint=LFS_HINT)
    try:
        value = json.loads(
            text,
            object_pairs_hook=_no_duplicates,
            parse_float=parse_float,
            parse_int=parse_int,
            parse_constant=_no_constant,
        )
        _check_depth_and_text(value)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise FormatError(
            f"{path}: not valid JSON: {error.msg} ({where})", hint=_REWRITE
        ) from error
    except RecursionError as error:
        raise FormatError(f"{path}: JSON is nested too deeply", hint=_REWRITE) from error
    except ValueError as error:  # from the hooks and from the check below
        raise FormatError(f"{path}: not valid JSON: {error}", hint=_REWRITE) from error
    return value


def _check_depth_and_text(value: Any) -> None:
    """Bounded depth, and no half of a surrogate pair (it could not be written or printed again)."""
    level, depth = [value], 0
    while level:
        depth += any(isinstance(item, (list, dict)) for item in level)
        if depth > MAX_JSON_DEPTH:
            raise _Refused(f"nested deeper than {MAX_JSON_DEPTH}")
        below: list[Any] = []
        for item in level:
            if isinstance(item, str):
                _check_text(item)
            elif isinstance(item, list):
                below.extend(item)
            elif isinstance(item, dict):
                below.extend(item)
                below.extend(item.values())
        level = below


def _check_text(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise _Refused(f"text with a lone surrogate: {text[:40]!a}") from error


def read_bytes(path: str | os.PathLike[str], *, max_bytes: int = MAX_JSON_BYTES) -> bytes:
    """All bytes of a small file; a longer one is a FormatError, before anything is read.

    Raises NotFoundError when the file is missing, not a regular file or not readable.
    """
    path = Path(path)
    with read_errors(path):
        if path.exists() and not path.is_file():  # opening a pipe would wait for ever
            raise NotFoundError(
                f"{path}: not a regular file", hint="give the path of a file, not of a folder"
            )
        with path.open("rb") as file:
            data = _at_most(file, max_bytes + 1)
    if len(data) > max_bytes:
        raise FormatError(
            f"{path}: larger than the limit of {max_bytes} bytes for such a file",
            hint="check that this is the file you meant",
        )
    return data


def _at_most(file: BinaryIO, count: int) -> bytes:
    """What there is of the next `count` bytes; `read` would take the memory for all of them."""
    data = bytearray()
    while piece := file.read(min(_PIECE, count - len(data))):
        data += piece
    return bytes(data)


def read_text(path: str | os.PathLike[str], *, max_bytes: int = MAX_JSON_BYTES) -> str:
    """The text of a UTF-8 file, exactly as stored (no newline translation)."""
    return _decode(read_bytes(path, max_bytes=max_bytes), path)


def _decode(data: bytes, path: str | os.PathLike[str]) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise FormatError(
            f"{os.fspath(path)}: byte {error.start} is not UTF-8 ({error.reason})",
            hint="convert the file to UTF-8",
        ) from error


def read_json(path: str | os.PathLike[str], *, max_bytes: int = MAX_JSON_BYTES) -> Any:
    """The value of a strict JSON file: UTF-8, no duplicate keys, no NaN, bounded size and depth."""
    return parse_json(read_text(path, max_bytes=max_bytes), path)


def parse_json_bytes(data: bytes, path: str | os.PathLike[str]) -> Any:
    """The value of the bytes of a strict JSON file, which came from `path`; see `read_json`."""
    return parse_json(_decode(data, path), path)
