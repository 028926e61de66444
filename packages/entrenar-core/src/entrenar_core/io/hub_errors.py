"""What went wrong with the hub, as one of our errors: who refused, and what to do about it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from entrenar_common.errors import (
    EntrenarError,
    HubError,
    IntegrityError,
    NotFoundError,
    StorageError,
)
from entrenar_common.text import escape_controls

Kind = Literal["model", "dataset"]


@dataclass(frozen=True)
class Asked:
    """What the hub is asked for.

    model:     the name of what is asked about, which is a model or, by `kind`, a dataset.
    or_folder: the name could have been that of a folder on this machine, and a download is wanted,
    which the cache can stand in for.
    """

    model: str
    revision: str | None = None
    file: str | None = None
    or_folder: bool = False
    kind: Kind = "model"

    @property
    def shown(self) -> str:
        """The model and the file, as errors about either begin."""
        return escape_controls(self.model + (f"/{self.file}" if self.file else ""))


@contextmanager
def hub_errors(asked: Asked) -> Iterator[None]:
    """Turns what huggingface_hub and its HTTP client raise in the body into one of our errors."""
    try:
        yield
    except (*client_errors(), OSError, ValueError) as error:
        raise _explain(error, asked) from error


def client_errors() -> tuple[type[Exception], ...]:
    """The errors of the HTTP client, which varies between versions of huggingface_hub."""
    from huggingface_hub.errors import HfHubHTTPError

    # it is among the bases of the hub's error
    kinds = HfHubHTTPError.__mro__
    return tuple(k for k in kinds if issubclass(k, Exception) and k not in (Exception, OSError))


def is_away(error: HubError) -> bool:
    """Whether the hub could not be asked, or could not answer: nothing was found or refused."""
    from huggingface_hub import errors as hub

    causes = list(_causes(error.__cause__))
    statuses = [c.response.status_code for c in causes if isinstance(c, hub.HfHubHTTPError)]
    if statuses:
        return statuses[0] == 429 or statuses[0] >= 500
    kinds = (hub.OfflineModeIsEnabled, *client_errors(), OSError)
    return any(isinstance(c, kinds) and not isinstance(c, ValueError) for c in causes)


def _explain(error: BaseException, asked: Asked) -> EntrenarError:
    """The error to report: the hub wraps what happened, so the first known cause decides."""
    from huggingface_hub import errors as hub

    causes = list(_causes(error))
    for kind, explain in (
        (hub.GatedRepoError, _gated),
        (hub.RevisionNotFoundError, _no_revision),
        (hub.RemoteEntryNotFoundError, _no_file),
        (hub.RepositoryNotFoundError, _missing),
        (hub.OfflineModeIsEnabled, _offline),
    ):
        if any(isinstance(cause, kind) for cause in causes):
            return explain(asked)
    for cause in causes:
        if isinstance(cause, hub.HfHubHTTPError):
            return _http_status(cause.response.status_code, asked)
    return _transport(causes, asked)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _gated(asked: Asked) -> EntrenarError:
    return HubError(
        f"{asked.model}: gated: its owner must grant you access first",
        hint=f"accept the terms on the page of {asked.model}, then set HF_TOKEN or run: "
        "hf auth login",
    )


def _no_revision(asked: Asked) -> EntrenarError:
    return NotFoundError(
        f"{asked.model}: the hub has no revision '{escape_controls(asked.revision or 'main')}' of "
        "it",
        hint="give a branch, a tag or a full commit hash",
    )


def _no_file(asked: Asked) -> EntrenarError:
    return NotFoundError(
        f"{asked.shown}: the hub has no such file",
        hint=f"look at the list of files on the page of {asked.model}",
    )


def _missing(asked: Asked) -> EntrenarError:
    folder = "no such folder, and " if asked.or_folder else ""
    return NotFoundError(
        f"{asked.model}: {folder}no such {asked.kind} on the hub (or it is private)",
        hint=f"check the spelling; for a private {asked.kind} set HF_TOKEN or run: hf auth login",
    )


def _offline(asked: Asked) -> EntrenarError:
    name = asked.model
    missing = "no such folder, not (all) in the cache" if asked.or_folder else "it is on the hub"
    if asked.kind == "dataset":
        name, missing = asked.shown, "it is not in the cache"
    return HubError(
        f"{name}: {missing}, and offline mode is on (HF_HUB_OFFLINE)",
        hint=f"unset HF_HUB_OFFLINE, or {_local_copy(asked)}",
    )


def _http_status(status: int, asked: Asked) -> EntrenarError:
    name = asked.shown
    if status == 404:
        return _missing(asked)
    if status in (401, 403):
        return HubError(
            f"{name}: the hub refuses access (status {status})",
            hint=f"set HF_TOKEN to a token that may read this {asked.kind}, or run: hf auth login",
        )
    if status == 429:
        return HubError(f"{name}: the hub's rate limit is reached (429)", hint="wait, then retry")
    return HubError(
        f"{name}: the hub failed (status {status})", hint="try again later: it is the hub's fault"
    )


def _transport(causes: list[BaseException], asked: Asked) -> EntrenarError:
    """What is left: no answer, an answer that is not the hub's, a wrong size, or our own disk."""
    first, name = causes[0], asked.shown
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
    folder = "no such folder, and " if asked.or_folder else ""
    return HubError(
        f"{name}: {folder}the hub cannot be reached: {text}",
        hint=f"check the network and HF_ENDPOINT, or {_local_copy(asked)}",
    )


def _local_copy(asked: Asked) -> str:
    if asked.kind == "dataset":
        return "read the files of a local copy"
    return "give the folder of a local copy"
