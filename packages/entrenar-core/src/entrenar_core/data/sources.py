"""Which files a dataset is made of, and the documents in them, in one order on every machine."""

import contextlib
import itertools
import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

from entrenar_common.errors import ConfigError, NotFoundError, StorageError
from entrenar_common.text import escape_controls
from entrenar_core.data.globs import translate_glob
from entrenar_core.data.hub_dataset import HubSource, HubSpec, list_hub_files
from entrenar_core.data.parquet import parquet_fields, parquet_rows, read_parquet
from entrenar_core.data.readers import (
    BadDocument,
    Document,
    Item,
    RowItem,
    Source,
    csv_fields,
    csv_rows,
    file_state,
    jsonl_fields,
    jsonl_rows,
    opened_file,
    read_csv,
    read_jsonl,
    read_lines,
    read_text,
)
from entrenar_core.data.row_kinds import Convert, RowKind

__all__ = [
    "DatasetSpec",
    "Document",
    "Skips",
    "SourceFile",
    "iter_documents",
    "list_files",
]

READERS: dict[str, Callable[[Source, str], Iterator[Item]]] = {
    "text": read_text,
    "lines": read_lines,
    "jsonl": read_jsonl,
    "csv": read_csv,
    "parquet": read_parquet,
}
ROW_READERS: dict[str, Callable[[Source, Mapping[str, str]], Iterator[RowItem]]] = {
    "jsonl": jsonl_rows,
    "csv": csv_rows,
    "parquet": parquet_rows,
}
FIELD_NAMES: dict[str, Callable[[Source], list[str]]] = {
    "jsonl": jsonl_fields,
    "csv": csv_fields,
    "parquet": parquet_fields,
}
FORMATS = ("auto", *READERS)
_SUFFIXES = {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".parquet": "parquet"}
_MAGIC = re.compile(r"[*?\[]")
_PROBLEMS_KEPT = 10


@dataclass(frozen=True)
class DatasetSpec:
    """What to read.

    paths:   files, folders (everything below them) or globs, relative to `root`; `**` stands for
             any number of folders and a leading ~ for the home folder. Names that begin with a dot
             are found only by a path that spells them out.
    exclude: globs of what to leave out. One without a slash is matched against each part of a path
             (`test*` leaves out folders of that name too); one with a slash against the path below
             the folder that was given, below `root`, or from the file system's root.
    format:  "auto" (by suffix: .jsonl .csv .parquet, otherwise one text file is one document),
             "text", "lines" (each line of a text file is a document), "jsonl", "csv" or "parquet".
    text_field: the field or column that has the text.
    rows:    what else than a text each row is; None for a text.
    skip_bad: leave out documents that cannot be read, and count them, instead of raising.
    max_documents: read no more than the first this many.
    hub:     a dataset on the hub, in the place of paths, exclude and format.
    """

    paths: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    format: str = "auto"
    text_field: str = "text"
    skip_bad: bool = False
    max_documents: int | None = None
    root: Path = field(default_factory=Path)
    hub: HubSpec | None = None
    rows: RowKind | None = None

    def __post_init__(self) -> None:
        if self.hub is not None and (self.paths or self.exclude or self.format != "auto"):
            raise ConfigError(
                f"dataset {self.hub.name} on the hub with paths, exclude or format",
                hint="give one or the other",
            )
        if not self.paths and self.hub is None:
            raise ConfigError("a dataset without paths", hint="set paths to files or globs")
        if self.format not in FORMATS:
            raise ConfigError(
                f"dataset format {self.format!a} is unknown",
                hint=f"use one of {', '.join(FORMATS)}",
            )
        if self.max_documents is not None and self.max_documents < 1:
            raise ConfigError(
                f"max_documents is {self.max_documents}", hint="use at least 1, or leave it out"
            )


@dataclass(frozen=True)
class SourceFile:
    """One file of a dataset, as it was when it was listed; `name` identifies it for people."""

    name: str
    path: Path
    format: str
    size: int
    mtime_ns: int
    revision: ClassVar[None] = None

    @property
    def identity(self) -> list[Any]:
        """What is another where the file is another one, as plain data."""
        return [self.name, str(self.path), self.format, self.size, self.mtime_ns]

    def place(self, row: int) -> str:
        return f"{self.name}:{row}"

    def opened(self) -> AbstractContextManager[BinaryIO]:
        return opened_file(self.path, self.name, (self.size, self.mtime_ns))


AnySource = SourceFile | HubSource


@dataclass
class Skips:
    """The bad documents left out: how many, and what was wrong with the first few."""

    count: int = 0
    problems: list[str] = field(default_factory=list)

    def add(self, problem: str) -> None:
        self.count += 1
        if len(self.problems) < _PROBLEMS_KEPT:
            self.problems.append(problem)


def iter_documents(spec: DatasetSpec, *, skips: Skips | None = None) -> Iterator[Document]:
    """The documents of a dataset, by file name and then in file order; empty ones are left out.

    With `spec.skip_bad`, what was left out is counted in `skips`.
    Raises NotFoundError (a path matches nothing), FormatError (not UTF-8, malformed, no such field;
    with path and line), IntegrityError (a file changed meanwhile) and ConfigError (no documents).
    """
    return read_documents(list_files(spec), spec, skips=skips)


def read_documents(
    sources: Sequence[AnySource],
    spec: DatasetSpec,
    *,
    skips: Skips | None = None,
    convert: Convert | None = None,
) -> Iterator[Document]:
    """`iter_documents` of files that were listed before; `convert` is what `spec.rows` opened."""
    skips = Skips() if skips is None else skips
    count = 0
    for document in _good_documents(sources, spec, skips, convert):
        yield document
        count += 1
        if count == spec.max_documents:
            return
    if count == 0:
        raise ConfigError(
            f"the dataset has no documents: {len(sources)} files were read, "
            f"{skips.count} bad documents left out, the others are empty",
            hint="check paths, format and fields of the dataset",
            details=skips.problems,
        )


def _good_documents(
    sources: Sequence[AnySource], spec: DatasetSpec, skips: Skips, convert: Convert | None
) -> Iterator[Document]:
    for source in sources:
        for item in _items(source, spec, convert):
            if isinstance(item, BadDocument):
                if not spec.skip_bad:
                    raise item.error
                skips.add(str(item.error))
            elif item.text:
                yield item


def _items(source: AnySource, spec: DatasetSpec, convert: Convert | None) -> Iterator[Item]:
    if spec.rows is None:
        yield from READERS[source.format](source, spec.text_field)
        return
    if convert is None:
        raise ConfigError(
            f"{source.name}: documents are made of its rows with a tokenizer",
            hint="tokenize the dataset",
        )
    if source.format not in ROW_READERS:
        raise ConfigError(
            f"{source.name}: a file of text has no fields {', '.join(spec.rows.fields().values())}",
            hint=f"give files of {', '.join(ROW_READERS)}, or set format of the dataset",
        )
    for row in ROW_READERS[source.format](source, spec.rows.fields()):
        yield row if isinstance(row, BadDocument) else convert(row)


def list_files(spec: DatasetSpec) -> list[AnySource]:
    """The files of a dataset, each once, sorted by name; raises NotFoundError as said above, and
    for a dataset on the hub what `list_hub_files` raises."""
    if spec.hub is not None:
        return [*list_hub_files(spec.hub)]
    root = _absolute(Path(), spec.root)
    excluded = _Excluded(spec.exclude, root)
    found: dict[Path, SourceFile] = {}
    for entry in spec.paths:
        matches = _matches(root, entry, excluded)
        if not matches:
            raise NotFoundError(
                f"dataset path {entry!a} matches no file (looked below {root})",
                hint="check the path and the exclude patterns",
            )
        for path, status in matches:
            if path not in found:
                found[path] = _source(path, status, root, spec.format)
    return sorted(found.values(), key=lambda source: source.name)


def _source(path: Path, status: os.stat_result, root: Path, wanted: str) -> SourceFile:
    name = (path.relative_to(root) if path.is_relative_to(root) else path).as_posix()
    kind = _SUFFIXES.get(path.suffix.lower(), "text") if wanted == "auto" else wanted
    return SourceFile(escape_controls(name), path, kind, *file_state(status))


def _absolute(root: Path, path: str | Path) -> Path:
    """The absolute path without `..`, links kept: a name stays what the user called it."""
    with contextlib.suppress(RuntimeError):  # a user who does not exist: ~nobody stays as it is
        path = Path(path).expanduser()
    return Path(os.path.normpath((root / path).absolute()))


def _matches(root: Path, entry: str, excluded: "_Excluded") -> list[tuple[Path, os.stat_result]]:
    base, wanted = _absolute(root, entry), None
    if not os.path.lexists(base):  # a name may have a bracket in it
        fixed = list(itertools.takewhile(lambda part: not _MAGIC.search(part), Path(entry).parts))
        base = _absolute(root, Path(*fixed))
        wanted = translate_glob("/".join(Path(entry).parts[len(fixed) :]))
    try:
        status = base.stat()
    except OSError:
        return []
    if stat.S_ISREG(status.st_mode) and wanted is None:
        return [] if excluded(base.parent, base.name) else [(base, status)]
    if not stat.S_ISDIR(status.st_mode):
        return []
    try:
        walked = list(_walk(base, "", excluded))
    except OSError as error:
        raise StorageError(
            f"{error.filename or base}: cannot be read: {error.strerror}",
            hint="check the permissions of the folder",
        ) from error
    return [
        (base / name, status) for name, status in walked if wanted is None or wanted.fullmatch(name)
    ]


def _walk(base: Path, below: str, excluded: "_Excluded") -> Iterator[tuple[str, os.stat_result]]:
    """The regular files below a folder; links to folders not followed."""
    with os.scandir(base / below) as entries:
        for entry in entries:
            name = below + entry.name
            if entry.name.startswith(".") or excluded(base, name):
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(base, name + "/", excluded)
            elif entry.is_file():
                yield name, entry.stat()


class _Excluded:
    """Says whether a path is left out; a folder that is left out is not entered."""

    def __init__(self, patterns: tuple[str, ...], root: Path) -> None:
        self._root = root.as_posix().rstrip("/") + "/"
        self._parts = _any_of([pattern for pattern in patterns if "/" not in pattern])
        self._paths = _any_of(
            [_home(pattern).rstrip("/") for pattern in patterns if "/" in pattern]
        )

    def __call__(self, base: Path, name: str) -> bool:
        if self._parts is not None and self._parts.fullmatch(name.rsplit("/", 1)[-1]):
            return True
        if self._paths is None:
            return False
        full = f"{base.as_posix().rstrip('/')}/{name}"
        return any(map(self._paths.fullmatch, (name, full, full.removeprefix(self._root))))


def _home(pattern: str) -> str:
    return str(Path.home()) + pattern[1:] if pattern.startswith("~/") else pattern


def _any_of(patterns: list[str]) -> re.Pattern[str] | None:
    if not patterns:
        return None
    return re.compile("|".join(translate_glob(pattern).pattern for pattern in patterns), re.DOTALL)
