"""The files of a dataset's repository on the hub at one commit, kept for when the hub is away."""

import contextlib
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from entrenar_common.errors import EntrenarError, HubError, StorageError
from entrenar_core.io import files
from entrenar_core.io.hub_errors import Asked, hub_errors, is_away
from entrenar_core.io.own_cache import own_cache

_SCHEMA = "entrenar.hub-listing/1"
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, slots=True)
class Listed:
    """A file as the hub lists it: its bytes, and their hash in hexadecimal, SHA-256 (64 digits) of
    what LFS keeps and git's SHA-1 (40 digits) of other files, None where the hub does not say."""

    size: int
    digest: str | None


@dataclass(frozen=True)
class Listing:
    """What is in the repository of the dataset `name` at `commit`, a full hash: `files` by path."""

    name: str
    commit: str
    files: Mapping[str, Listed]


def list_dataset(name: str, revision: str | None = None) -> Listing:
    """The files of the hub's dataset `name` at the commit that `revision` is now.

    Each answer is kept below `own_cache("hub")`. A commit that is known is not asked for again; for
    a branch or tag, the last answer stands in where the hub cannot be reached.

    Raises NotFoundError (no such dataset or revision) and HubError (access refused; no network or
    offline, and nothing kept).
    """
    folder = own_cache("hub") / name.replace("/", "--")
    ref = folder / f"{hashlib.sha256((revision or 'main').encode()).hexdigest()[:32]}.ref.json"
    if revision and _COMMIT.fullmatch(revision):
        kept = _kept(folder, name, revision)
        if kept is not None:
            return kept
    try:
        found = _ask(name, revision)
    except HubError as error:
        kept = _last(folder, name, ref) if is_away(error) else None
        if kept is None:
            raise
        return kept
    with contextlib.suppress(StorageError):  # then there is nothing to stand in, that is all
        _keep(folder, ref, found)
    return found


def _ask(name: str, revision: str | None) -> Listing:
    from huggingface_hub import HfApi  # a slow import
    from huggingface_hub.hf_api import RepoFile

    api = HfApi()
    with hub_errors(Asked(name, revision, kind="dataset")):
        try:
            commit = api.dataset_info(name, revision=revision).sha
            tree = api.list_repo_tree(name, recursive=True, revision=commit, repo_type="dataset")
            found = {
                entry.path: Listed(entry.size, entry.lfs.sha256 if entry.lfs else entry.blob_id)
                for entry in tree
                if isinstance(entry, RepoFile)
            }
        except (KeyError, TypeError, AttributeError) as error:  # JSON, and not a dataset's
            raise _not_a_hub(name) from error
    if commit is None or not _COMMIT.fullmatch(commit):
        raise _not_a_hub(name)
    return Listing(name, commit, found)


def _not_a_hub(name: str) -> HubError:
    return HubError(
        f"{name}: the answer is not that of a hub: it does not describe a dataset",
        hint="check HF_ENDPOINT, and whether a proxy or login page answers instead",
    )


def _keep(folder: Path, ref: Path, found: Listing) -> None:
    listed = [[path, file.size, file.digest] for path, file in found.files.items()]
    data = {"schema": _SCHEMA, "name": found.name, "commit": found.commit, "files": listed}
    files.make_folder(folder)
    files.write_json(folder / f"{found.commit}.json", data)
    files.write_json(ref, {"schema": _SCHEMA, "commit": found.commit})


def _last(folder: Path, name: str, ref: Path) -> Listing | None:
    """What a branch or tag was when the hub last said so."""
    commit = _read(ref).get("commit")
    if not isinstance(commit, str) or not _COMMIT.fullmatch(commit):
        return None
    return _kept(folder, name, commit)


def _kept(folder: Path, name: str, commit: str) -> Listing | None:
    data = _read(folder / f"{commit}.json")
    try:
        if (data["name"], data["commit"]) != (name, commit):
            return None
        return Listing(name, commit, {path: Listed(n, digest) for path, n, digest in data["files"]})
    except (KeyError, TypeError, ValueError):
        return None  # damaged: as if it were not there


def _read(path: Path) -> dict[str, Any]:
    """A file of ours; nothing where there is none or it is not whole."""
    try:
        data = files.read_json(path)
    except EntrenarError:
        return {}
    return data if isinstance(data, dict) and data.get("schema") == _SCHEMA else {}
