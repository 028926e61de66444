"""Whether files still are what a record says: a manifest of ours, or what came with a download.

huggingface_hub's cache has a file as a link to `blobs/<hash>`; in a folder that `hf download
--local-dir` filled, `.cache/huggingface/download/<file>.metadata` has the hash in its second line.
The hash is that of the content (SHA-256) for large files, and Git's (SHA-1 of `blob <size>\\0` and
the content) for small ones. Source: https://huggingface.co/docs/huggingface_hub, "Understand
caching" and "Download files to a local folder".
"""

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from threading import Event
from typing import NamedTuple

from entrenar_common.errors import EntrenarError
from entrenar_common.text import escape_controls
from entrenar_core.io.files import read_bytes
from entrenar_core.io.os_calls import read_errors
from entrenar_core.train.checkpoint_manifest import MANIFEST_NAME, SCHEMA, read_manifest
from entrenar_inspect.finding import Finding, Looked, Skipped, broken
from entrenar_inspect.subject import Subject

_HASH = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_SHA256 = 64
"""Digits of it; Git's hash has 40."""
_PIECE = 8 * 2**20
_LOCAL = Path(".cache/huggingface/download")
_METADATA_BYTES = 4096


class Recorded(NamedTuple):
    """What a record says of a file: its hash, its size where that is said, and who says it."""

    path: Path
    digest: str
    size: int | None
    source: str


class Records(NamedTuple):
    """What is recorded of the files, and what is wrong with the records themselves."""

    files: list[Recorded]
    findings: list[Finding]


def records_of(subject: Subject) -> Records:
    """The recorded hashes of the file, or of all files in the folder, each file's first."""
    found: dict[Path, Recorded] = {}
    findings: list[Finding] = []
    try:
        manifest = _of_manifest(subject.folder)
    except EntrenarError as error:
        manifest = []
        findings.append(broken("V123", escape_controls(str(error)), file=MANIFEST_NAME))
    with read_errors(subject.folder):
        names = sorted(path for path in subject.folder.iterdir() if path.is_file())
    for record in [*manifest, *_of_cache(names), *_of_local(subject.folder, names)]:
        if subject.given is None or record.path == subject.given:
            found.setdefault(record.path, record)
    return Records(list(found.values()), findings)


def _of_manifest(folder: Path) -> list[Recorded]:
    path = folder / MANIFEST_NAME
    if not path.is_file() or SCHEMA.partition("/")[0].encode() not in read_bytes(path):
        return []  # there are other files of this name
    files = read_manifest(folder).files
    return [Recorded(folder / n, f.sha256, f.size, MANIFEST_NAME) for n, f in files.items()]


def _of_cache(paths: list[Path]) -> Iterator[Recorded]:
    for path in paths:
        if path.is_symlink():
            blob = path.resolve()
            if blob.parent.name == "blobs" and _HASH.fullmatch(blob.name):
                yield Recorded(path, blob.name, None, "its name in the hub's cache")


def _of_local(folder: Path, paths: list[Path]) -> Iterator[Recorded]:
    for path in paths:
        metadata = folder / _LOCAL / f"{path.name}.metadata"
        if not metadata.is_file() or metadata.stat().st_size > _METADATA_BYTES:
            continue
        lines = metadata.read_bytes().decode(errors="replace").splitlines()
        if len(lines) > 1 and _HASH.fullmatch(lines[1]):
            yield Recorded(path, lines[1], None, "the record of its download")


def check_sizes(records: Records) -> Looked | Skipped:
    """Whether the recorded files are there, with the recorded sizes."""
    if not records.files and not records.findings:
        return Skipped("no manifest and no hash of a download")
    found = [*records.findings, *_wrong_sizes(records)]
    sized = sum(record.size is not None for record in records.files)
    return Looked(f"sizes of {sized} files, their content only with --depth values", found)


def check_hashes(records: Records, stop: Event) -> Looked | Skipped:
    """Whether the recorded files have the recorded content; ends early when `stop` is set."""
    if not records.files and not records.findings:
        return Skipped("no manifest and no hash of a download")
    found = [*records.findings, *_wrong_sizes(records)]
    known = {finding.file for finding in found}
    for record in records.files:
        shown = escape_controls(record.path.name)
        if shown in known:
            continue
        digest = _digest(record, stop)
        if digest not in (None, record.digest):
            message = f"{shown} has the hash {digest[:12]}…, {record.source} says "
            found.append(broken("V121", f"{message}{record.digest[:12]}…", file=shown))
    return Looked(f"content of {len(records.files)} files", found)


def _wrong_sizes(records: Records) -> Iterator[Finding]:
    for record in records.files:
        shown = escape_controls(record.path.name)
        if not record.path.is_file():
            yield broken("V122", f"{shown} is missing, {record.source} lists it", file=shown)
        elif record.size is not None and record.path.stat().st_size != record.size:
            message = f"{shown} has {record.path.stat().st_size} bytes, {record.source} says "
            yield broken("V122", f"{message}{record.size}", file=shown)


def _digest(record: Recorded, stop: Event) -> str | None:
    """The hash of a file as it is recorded, in hexadecimal; None where it was stopped."""
    with read_errors(record.path), record.path.open("rb", buffering=0) as file:
        if len(record.digest) == _SHA256:
            digest = hashlib.sha256()
        else:
            size = record.path.stat().st_size
            digest = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
        buffer = memoryview(bytearray(_PIECE))
        while count := file.readinto(buffer):
            if stop.is_set():
                return None
            digest.update(buffer[:count])
    return digest.hexdigest()
