"""The parts of a split GGUF model: what they are called, and whether they belong together."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn, Protocol, TypeVar

from entrenar_common.errors import FormatError
from entrenar_common.text import escape_controls
from entrenar_core.io.gguf_header import GGUFTensor
from entrenar_core.io.gguf_metadata import Metadata

PART, PARTS, ALL_TENSORS = "split.no", "split.count", "split.tensors.count"
MAX_PARTS = 2**16 - 1


class Part(Protocol):
    """A GGUF file whose header was read, wherever it is."""

    @property
    def path(self) -> Path: ...  # of which the name is used, and which messages begin with

    @property
    def tensors(self) -> Mapping[str, GGUFTensor]: ...

    @property
    def metadata(self) -> Metadata: ...


P = TypeVar("P", bound=Part)


def other_parts(first: Part) -> list[Path]:
    """The paths of the parts after the first, by what it says; [] where it is the whole model."""
    count = part_count(first)
    if count < 2:
        return []
    path, number = first.path, first.metadata.integer(PART)
    if number:
        raise FormatError(
            f"{path}: this is part {number + 1} of {count}",
            hint=f"give the first part, which is called ...-{_suffix(0, count)}",
        )
    if not path.name.endswith("-" + _suffix(0, count)):
        raise FormatError(
            f"{path}: the first of {count} parts, and the others cannot be found by this name",
            hint=f"give the parts their names back: this one ends in -{_suffix(0, count)}",
        )
    stem = path.name.removesuffix(_suffix(0, count))
    return [path.with_name(stem + _suffix(i, count)) for i in range(1, count)]


def part_count(first: Part) -> int:
    """How many parts the model has; FormatError for a number that cannot be."""
    count = first.metadata.integer(PARTS, 1)
    if not 0 <= count <= MAX_PARTS:
        _fail(first.path, f"{PARTS} is {count}")
    return count


def check_part(part: Part, number: int, count: int) -> None:
    """Raises FormatError where it is not part `number`, counted from 0, of `count`."""
    found = part.metadata.integer(PART), part.metadata.integer(PARTS)
    if found != (number, count):
        _fail(
            part.path,
            f"{PART} is {found[0]} and {PARTS} {found[1]}, not {number} and {count} as its name "
            "says",
        )


def place_tensors(parts: Sequence[P]) -> dict[str, P]:
    """The part that has each tensor, part after part; FormatError where two have the same one."""
    found: dict[str, P] = {}
    for part in parts:
        for name in part.tensors:
            if name in found:
                other = found[name].path.name
                _fail(part.path, f"tensor '{escape_controls(name)}' is in {other} too")
            found[name] = part
    wanted = parts[0].metadata.integer(ALL_TENSORS, len(found))
    if wanted != len(found):
        _fail(parts[0].path, f"{ALL_TENSORS} is {wanted}, and there are {len(found)}")
    return found


def whole_metadata(first: Part) -> Metadata:
    """The metadata of all parts, which is the first one's without the keys about parts."""
    return first.metadata.without({PART, PARTS, ALL_TENSORS})


def _suffix(number: int, count: int) -> str:
    return f"{number + 1:05d}-of-{count:05d}.gguf"


def _fail(path: Path, what: str) -> NoReturn:
    raise FormatError(
        f"{path}: {what}", hint="the parts do not belong together: fetch all of one model again"
    )
