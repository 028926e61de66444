"""A file of a dataset on the hub: in huggingface_hub's cache, or as ranges of bytes."""

import hashlib
from pathlib import Path

from entrenar_common.errors import IntegrityError
from entrenar_core.io.files import sha256_file
from entrenar_core.io.hub_bars import bars_only_on_a_terminal
from entrenar_core.io.hub_errors import Asked, hub_errors
from entrenar_core.io.hub_file import HubFile
from entrenar_core.io.hub_listing import Listed, Listing
from entrenar_core.io.hub_ranges import RangeFile
from entrenar_core.io.strict_json import read_bytes

_SHA256, _GIT = 64, 40
"""Digits of the hashes that the hub lists."""


def download(listing: Listing, file: str) -> Path:
    """The file in huggingface_hub's cache, fetched where it is not there.

    A connection that breaks is taken up again where it broke. What is returned has the size and the
    hash that the hub lists. Raises NotFoundError, HubError (access refused, no network, offline and
    not in the cache), IntegrityError (it is not what the hub lists) and StorageError.
    """
    from huggingface_hub import hf_hub_download  # a slow import

    asked = Asked(listing.name, listing.commit, file, kind="dataset")
    with hub_errors(asked), bars_only_on_a_terminal():
        path = Path(
            hf_hub_download(listing.name, file, repo_type="dataset", revision=listing.commit)
        )
    said = _difference(path, listing.files[file])
    if said is not None:
        raise IntegrityError(
            f"{asked.shown}: the copy in the cache is not the file that the hub lists: {said}",
            hint=f"remove {path.resolve()} and run again to fetch it anew",
        )
    return path


def open_ranges(listing: Listing, file: str) -> RangeFile:
    """The file as one that fetches what is read of it. Raises as `HubFile` does, and
    IntegrityError where the hub gives another file than it lists."""
    found = HubFile(listing.name, file, revision=listing.commit, kind="dataset")
    listed = listing.files[file]
    other_hash = _comparable(found.etag, listed.digest) and found.etag != listed.digest
    if found.size != listed.size or other_hash:
        raise IntegrityError(
            f"{found.path}: the hub gives another file than it lists",
            hint="run again later; if it stays so, tell the dataset's owner",
        )
    return RangeFile(found)


def _comparable(etag: str | None, digest: str | None) -> bool:
    """Whether an ETag is a hash of the kind that is listed: a mirror may have tags of its own."""
    return etag is not None and digest is not None and len(etag) == len(digest)


def _difference(path: Path, listed: Listed) -> str | None:
    size = path.stat().st_size
    if size != listed.size:
        return f"{size} bytes instead of {listed.size}"
    kind = len(listed.digest or "")
    if kind == _SHA256 and sha256_file(path) != listed.digest:
        return "its SHA-256 is another one"
    if kind == _GIT and _git_hash(path, size) != listed.digest:
        return "git's hash of it is another one"
    return None


def _git_hash(path: Path, size: int) -> str:
    """What git calls a file of these bytes (Pro Git, 10.2 "Git Objects")."""
    content = read_bytes(path, max_bytes=size)
    return hashlib.sha1(b"blob %d\0" % size + content, usedforsecurity=False).hexdigest()
