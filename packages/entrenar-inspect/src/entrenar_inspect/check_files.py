"""Whether files open, and whether the index of shards is right."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from entrenar_common.errors import (
    EntrenarError,
    FormatError,
    IntegrityError,
    NotFoundError,
    RefusedError,
    UnsupportedError,
)
from entrenar_common.text import escape_controls
from entrenar_inspect.finding import Finding, Looked, Skipped, broken
from entrenar_inspect.subject import Subject, read_index

_TOLD_BY: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("V134", re.compile(r"the name has control characters")),
    ("V103", re.compile(r"Git LFS pointer|: looks like |: this is an? |: not a file of torch")),
    ("V102", re.compile(r"truncated|: empty file|shorter than|runs? past|past the end|are left")),
)
"""A rule and the words that a FormatError tells it by: readers have one class for all that breaks
a format, and to who has the file it makes a difference."""

_BY_CLASS: dict[type[EntrenarError], str] = {
    FormatError: "V101", UnsupportedError: "V104", RefusedError: "V131", IntegrityError: "V105",
    NotFoundError: "V111",
}  # fmt: skip
READ_ERRORS = tuple(_BY_CLASS)
"""What reading a file raises that says something about the file."""
_PLACE = re.compile(r"\(((?:at|in) bytes? \d+(?: to \d+)?|line \d+, column \d+)\)")
_OTHER_JSON = ("generation_config.json", "tokenizer_config.json", "adapter_config.json")


def of_error(error: EntrenarError, file: str, *, tensor: str | None = None) -> Finding:
    """The finding that an error of a reader is, by its class and its words."""
    text = escape_controls(str(error))
    rule = _BY_CLASS.get(type(error), "V101")
    if rule == "V101":
        rule = next((told for told, words in _TOLD_BY if words.search(text)), rule)
    place = _PLACE.search(text)
    return broken(rule, text, file=file, tensor=tensor, place=place[1] if place else None)


def check_header(subject: Subject) -> Looked | Skipped:
    """Every file of weights by itself, the JSON beside them, and all of it together."""
    found = [of_error(error, subject.shown(path)) for path, error in subject.failed.items()]
    found += _json(subject)
    # an index has its own check, and a JSON file has been named already
    if subject.refused is not None and subject.index is None and not found:
        found.append(of_error(subject.refused, subject.shown(subject.weights[0])))
    count = sum(len(file.tensors) for file in subject.opened.values())
    files = len(subject.weights)
    return Looked(f"{count:,} tensors in {files:,} file{'' if files == 1 else 's'}", found)


def _json(subject: Subject) -> Iterator[Finding]:
    if subject.given is not None and subject.artifact is not None and not subject.artifact.config:
        return  # a lone file, with which what lies beside it has nothing to do
    for name in ("config.json", *_OTHER_JSON):
        try:
            value = subject.beside(name)
        except EntrenarError as error:
            yield broken("V106", escape_controls(str(error)), file=name)
            continue
        if value is not None and not isinstance(value, dict):
            yield broken("V106", f"{name} is no JSON object", file=name)


def check_index(subject: Subject) -> Looked | Skipped:
    """Whether each listed tensor is where the index says, and nothing is besides."""
    if subject.index is None:
        return Skipped("no index of shards")
    name = subject.index.name
    try:
        index = read_index(subject.index)
    except EntrenarError as error:
        return Looked("index", [broken("V115", escape_controls(str(error)), file=name)])
    listed, shards = index.weight_map, index.shards
    where, twice = _places(subject)
    found = [
        broken("V111", f"{escape_controls(s)} is missing, and {name} lists it", file=s)
        for s in shards
        if not (subject.folder / s).exists()
    ]
    found += twice
    unread = {path.name for path in subject.failed} | {finding.file for finding in found}
    found += _misplaced(listed, where, unread, name)
    if not unread:
        found += _size(subject, listed, index.total_size, name)
    return Looked(f"{len(listed):,} tensors in {len(shards):,} shards", found)


def _places(subject: Subject) -> tuple[dict[str, Path], list[Finding]]:
    """The file of each tensor, and those that are in two."""
    where: dict[str, Path] = {}
    twice = []
    for path, file in subject.opened.items():
        for tensor in file.tensors:
            first = where.setdefault(tensor, path)
            if first != path:
                message = f"{escape_controls(tensor)} is in {first.name} and in {path.name}"
                twice.append(broken("V116", message, tensor=tensor, file=path.name))
    return where, twice


def _misplaced(
    listed: dict[str, str], where: dict[str, Path], unread: Iterable[str | None], index: str
) -> Iterator[Finding]:
    for tensor, shard in listed.items():
        at = where.get(tensor)
        if (at is None or at.name != shard) and shard not in unread:
            seen = "in none of the shards" if at is None else f"in {at.name}"
            message = f"{escape_controls(tensor)} should be in {escape_controls(shard)}, and is"
            yield broken("V112", f"{message} {seen}", tensor=tensor, file=shard)
    for tensor in where.keys() - listed.keys():
        message = f"{escape_controls(tensor)} is in {where[tensor].name}, and not in {index}"
        yield broken("V113", message, tensor=tensor, file=where[tensor].name)


def _size(subject: Subject, listed: dict[str, str], total: object, index: str) -> Iterator[Finding]:
    sizes = {n: t.nbytes for file in subject.opened.values() for n, t in file.tensors.items()}
    size = sum(sizes.get(name, 0) for name in listed)
    if total is not None and total != size:
        message = f"total_size is {total!r}, and the tensors take {size} bytes"
        yield broken("V114", message, file=index)
