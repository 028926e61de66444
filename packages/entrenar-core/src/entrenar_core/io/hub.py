"""Finding a model: a folder on this machine, or a download through huggingface_hub's cache; or only
what is known of it without its weights."""

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from entrenar_common.errors import (
    EntrenarError,
    FormatError,
    HubError,
    IntegrityError,
    NotFoundError,
    StorageError,
)
from entrenar_common.text import escape_controls
from entrenar_core.io.apr import is_apr
from entrenar_core.io.gguf import is_gguf

_ALLOWED = ["*.json", "*.safetensors", "*.txt", "*.model", "tokenizer*"]
# top-level files only: sub-folders hold other formats, and no listed name leads out of the folder
_IGNORED = ["*/*", "consolidated*.safetensors"]

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", re.ASCII)


def resolve_model(spec: str | Path, revision: str | None = None) -> Path:
    """Where a model is: `spec` itself where it is a folder or a file with a whole model (GGUF,
    APR), else the folder of the hub's model of that name.

    Configs, tokenizer and safetensors files are downloaded to huggingface_hub's cache, or found in
    it. `HF_HOME`, `HF_ENDPOINT`, `HF_TOKEN` and `HF_HUB_OFFLINE` are honoured; `revision` is a
    branch, tag or commit.

    Raises NotFoundError (neither a folder nor a model on the hub), HubError (access refused,
    offline, no network, the hub is down), IntegrityError (a download of the wrong size),
    StorageError (the cache cannot be written).
    """
    name = str(spec)
    if name:  # no text at all would be the current folder
        folder = Path(spec).expanduser()
        if folder.is_dir():
            return folder
        if is_gguf(folder) or is_apr(folder):
            return folder
        if folder.exists():
            raise NotFoundError(
                f"{folder}: a file, not a model's folder, and neither GGUF nor APR",
                hint="give the folder that contains it",
            )
    return fetch_model(name, revision)


def fetch_model(name: str, revision: str | None = None) -> Path:
    """The folder of the hub's model `name`, whatever there is of that name on this machine; see
    `resolve_model`."""
    _check_name(name)
    return _download(name, revision)


def fetch_config(name: str, revision: str | None = None) -> Path:
    """The `config.json` of the hub's model `name`, downloaded to the cache or found in it.

    Raises what `resolve_model` raises.
    """
    from huggingface_hub import hf_hub_download  # a slow import

    _check_name(name)
    with _hub_errors(name, revision), _bars_only_on_a_terminal():
        return Path(hf_hub_download(name, "config.json", revision=revision))


def fetch_shapes(
    name: str, revision: str | None = None
) -> dict[str, tuple[str, tuple[int, ...]]] | None:
    """Type and shape of every tensor in the safetensors files of the hub's model `name`, as
    ("BF16", (32000, 4096)); None where it has no such files.

    Only the headers are fetched, by requests for ranges of bytes. Raises FormatError for a header
    that cannot be read, and what `resolve_model` raises.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import NotASafetensorsRepoError, SafetensorsParsingError

    _check_name(name)
    with _hub_errors(name, revision), _bars_only_on_a_terminal():
        try:
            found = HfApi().get_safetensors_metadata(name, revision=revision)
        except NotASafetensorsRepoError:
            return None
        except SafetensorsParsingError as error:
            raise FormatError(
                f"{name}: the header of a safetensors file cannot be read: "
                f"{escape_controls(' '.join(str(error).split())[:200])}",
                hint="download the model and look at the file",
            ) from error
    return {
        tensor: (info.dtype, tuple(info.shape))
        for file in found.files_metadata.values()
        for tensor, info in file.tensors.items()
    }


def _check_name(name: str) -> None:
    if not _HUB_NAME.fullmatch(name) or ".." in name or "--" in name:
        raise NotFoundError(
            f"'{escape_controls(name)}': no such folder, and not a name on the hub",
            hint="give a folder, or a name like org/model",
        )


def _download(name: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download  # a slow import

    with _hub_errors(name, revision), _bars_only_on_a_terminal():
        found = snapshot_download(
            name, revision=revision, allow_patterns=_ALLOWED, ignore_patterns=_IGNORED
        )
    return Path(found)


@contextmanager
def _bars_only_on_a_terminal() -> Iterator[None]:
    from huggingface_hub import utils

    asked_for = "HF_HUB_DISABLE_PROGRESS_BARS" in os.environ
    if asked_for or utils.are_progress_bars_disabled() or sys.stderr.isatty():
        yield
        return
    utils.disable_progress_bars()
    try:
        yield
    finally:
        utils.enable_progress_bars()


@contextmanager
def _hub_errors(name: str, revision: str | None) -> Iterator[None]:
    from huggingface_hub.errors import HfHubHTTPError

    # among its bases is the error of the HTTP client, which varies between versions
    clients = [k for k in HfHubHTTPError.__mro__ if issubclass(k, Exception) and k is not Exception]
    try:
        yield
    except (*clients, OSError, ValueError) as error:
        raise _explain(error, name, revision) from error


def _explain(error: BaseException, name: str, revision: str | None) -> EntrenarError:
    """The error to report: the hub wraps what happened, so the first known cause decides."""
    from huggingface_hub import errors as hub

    causes = list(_causes(error))
    for kind, explain in (
        (hub.GatedRepoError, _gated),
        (hub.RevisionNotFoundError, lambda n: _no_revision(n, revision)),
        (hub.RepositoryNotFoundError, _missing),
        (hub.OfflineModeIsEnabled, _offline),
    ):
        if any(isinstance(cause, kind) for cause in causes):
            return explain(name)
    for cause in causes:
        if isinstance(cause, hub.HfHubHTTPError):
            return _http_status(cause.response.status_code, name)
    return _transport(causes, name)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _gated(name: str) -> EntrenarError:
    return HubError(
        f"{name}: gated: its owner must grant you access first",
        hint=f"accept the terms on the page of {name}, then set HF_TOKEN or run: hf auth login",
    )


def _no_revision(name: str, revision: str | None) -> EntrenarError:
    return NotFoundError(
        f"{name}: the hub has no revision '{escape_controls(revision or 'main')}' of it",
        hint="give a branch, a tag or a full commit hash",
    )


def _missing(name: str) -> EntrenarError:
    return NotFoundError(
        f"{name}: no such folder, and no such model on the hub (or it is private)",
        hint="check the spelling; for a private model set HF_TOKEN or run: hf auth login",
    )


def _offline(name: str) -> EntrenarError:
    return HubError(
        f"{name}: no such folder, not (all) in the cache, and offline mode is on (HF_HUB_OFFLINE)",
        hint="unset HF_HUB_OFFLINE, or give the folder of a local copy",
    )


def _http_status(status: int, name: str) -> EntrenarError:
    if status == 404:
        return _missing(name)
    if status in (401, 403):
        return HubError(
            f"{name}: the hub refuses access (status {status})",
            hint="set HF_TOKEN to a token that may read this model, or run: hf auth login",
        )
    if status == 429:
        return HubError(f"{name}: the hub's rate limit is reached (429)", hint="wait, then retry")
    return HubError(
        f"{name}: the hub failed (status {status})", hint="try again later: it is the hub's fault"
    )


def _transport(causes: list[BaseException], name: str) -> EntrenarError:
    """What is left: no answer, an answer that is not the hub's, a wrong size, or our own disk."""
    first = causes[0]
    text = escape_controls(" ".join(str(causes[-1]).split())[:200])
    if "onsistency check failed" in str(first):
        return IntegrityError(
            f"{name}: a downloaded file has the wrong size", hint="run again to fetch it anew"
        )
    if isinstance(first, ValueError):
        return HubError(
            f"{name}: the answer is not that of a hub: {text}",
            hint="check HF_ENDPOINT, and whether a proxy or login page answers instead",
        )
    if isinstance(first, OSError) and first.errno is not None and first.filename is not None:
        return StorageError(
            f"{first.filename}: {first.strerror}", hint="check the cache folder (HF_HOME)"
        )
    text = text or type(causes[-1]).__name__
    return HubError(
        f"{name}: no such folder, and the hub cannot be reached: {text}",
        hint="check the network and HF_ENDPOINT, or give the folder of a local copy",
    )
