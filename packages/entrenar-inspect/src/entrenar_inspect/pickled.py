"""What a pickle names, read off its opcodes without running any of them."""

import io
import pickletools
import zipfile
from collections.abc import Iterator
from pathlib import Path

from entrenar_core.io.os_calls import read_errors
from entrenar_core.io.torch_records import GLOBALS

MOST_BYTES = 64 * 2**20
_INERT = frozenset(
    f"{module}.{name}"
    for module in ("numpy.core.multiarray", "numpy._core.multiarray")
    for name in ("_reconstruct", "scalar")
) | {"numpy.ndarray", "numpy.dtype", "_codecs.encode", "builtins.set", "__builtin__.set"}
"""What makes arrays and sets, besides tensors' own: it reads no file and starts nothing."""
_UNKNOWN = "?"
_TEXT = ("UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8")
_PUT, _GET = ("PUT", "BINPUT", "LONG_BINPUT"), ("GET", "BINGET", "LONG_BINGET")


def is_pickle(path: Path) -> bool:
    """Whether a file is a pickle, or an archive with some, by its first bytes."""
    with read_errors(path), path.open("rb") as file:
        head = file.read(4)
    return head.startswith((b"PK\x03\x04", b"\x80"))


def called_by(path: Path) -> list[str]:
    """What the pickles in a file would import when they are loaded, without what makes tensors and
    arrays: each once, in order. What cannot be followed to its end is followed as far as it goes.
    """
    found = dict.fromkeys(name for data in _pickles(path) for name in _names(data))
    return [name for name in found if name not in _INERT and name not in GLOBALS]


def _pickles(path: Path) -> Iterator[bytes]:
    with read_errors(path), path.open("rb") as file:
        if file.read(4) != b"PK\x03\x04":
            file.seek(0)
            yield file.read(MOST_BYTES)
            return
    try:
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                if info.filename.endswith(".pkl") and info.file_size <= MOST_BYTES:
                    yield archive.read(info)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, OSError):
        return  # no archive that anything loads


def _names(data: bytes) -> Iterator[str]:
    """The names in all pickles that follow each other in `data`."""
    stream = io.BytesIO(data)
    while stream.tell() < len(data):
        try:
            yield from _names_of_one(stream)
        except ValueError:  # a byte that is no opcode, or the end
            return


def _names_of_one(stream: io.BytesIO) -> Iterator[str]:
    texts: list[str] = []
    memo: dict[int, str] = {}
    for opcode, argument, _ in pickletools.genops(stream):
        if opcode.name in ("GLOBAL", "INST"):
            yield str(argument).replace(" ", ".")
        elif opcode.name == "STACK_GLOBAL":
            yield ".".join(texts[-2:]) or _UNKNOWN
        elif opcode.name in _TEXT:
            texts.append(str(argument))
        elif opcode.name == "MEMOIZE":
            memo[len(memo)] = texts[-1] if texts else _UNKNOWN
        elif opcode.name in _PUT:
            memo[int(str(argument))] = texts[-1] if texts else _UNKNOWN
        elif opcode.name in _GET:
            texts.append(memo.get(int(str(argument)), _UNKNOWN))
