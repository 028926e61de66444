"""A file on the hub of which ranges of bytes are fetched, each byte once."""

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from entrenar_common.errors import HubError, IntegrityError
from entrenar_common.text import escape_controls
from entrenar_core.io.hub_errors import Asked, Kind, client_errors, hub_errors

T = TypeVar("T")

_WAITS = (0.2, 0.5, 1.0, 2.0, 4.0)
"""Seconds before each further try."""

_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")


class HubFile:
    """A file of the hub's model `model`, whose ranges of bytes are fetched when they are taken.

    `kind` says what has that name, a "model" or a "dataset".

    `name` is its path in the repository, `size` its bytes, `etag` the SHA-256 of what LFS keeps and
    git's hash of other files, `fetched` counts the bytes of bodies that came. `path` is for
    messages. The token goes to the hub only, never to the host that it sends us to for large files.
    Not for several threads at once.

    Raises NotFoundError (no such file, model or revision), HubError (access refused, no network,
    the hub is down) and IntegrityError (the file changes while it is read), here and in `take`.
    """

    def __init__(
        self, model: str, name: str, *, revision: str | None = None, kind: Kind = "model"
    ) -> None:
        self.name, self.fetched = name, 0
        self._asked = Asked(model, revision, name, kind=kind)
        self.path = Path(self._asked.shown)
        with hub_errors(self._asked):
            found = self._locate()
        if found.size is None:
            self._fail("the hub does not say how large it is")
        self.size, self.etag = found.size, found.etag
        self._range_etag: str | None = None

    def take(self, begin: int, length: int) -> bytes:
        """`length` bytes from `begin` on, fewer where the file ends.

        Where the connection breaks, what is missing is asked for a few times more.
        """
        found, wanted = bytearray(), min(length, self.size - begin)
        if wanted <= 0:
            return b""
        with hub_errors(self._asked):
            try:
                done = _retried(lambda: self._receive(found, begin, wanted))
            except client_errors() as error:
                if not (self._elsewhere and _is_refused(error)):
                    raise
                self._locate()  # addresses of large files are good for some time only
                done = _retried(lambda: self._receive(found, begin, wanted))
        if done is None:
            self._fail(f"the answers end {wanted - len(found)} bytes early")
        return bytes(found)

    def _locate(self) -> Any:
        """Asks the hub where the file is, and what is known of it."""
        from huggingface_hub import get_hf_file_metadata, hf_hub_url
        from huggingface_hub.utils import build_hf_headers

        asked = self._asked
        url = hf_hub_url(asked.model, self.name, revision=asked.revision, repo_type=asked.kind)
        found = _retried(lambda: get_hf_file_metadata(url))
        assert found is not None  # the request of metadata returns or raises
        # identity: ranges are those of the file, not of a compressed form
        self._headers = {**build_hf_headers(), "Accept-Encoding": "identity"}
        self._url, self._elsewhere = found.location, not _same_host(url, found.location)
        if self._elsewhere:
            self._headers.pop("authorization", None)
        return found

    def _receive(self, found: bytearray, begin: int, wanted: int) -> bytearray | None:
        """Appends what one request brings of the missing bytes; None where some are missing yet."""
        from huggingface_hub import constants
        from huggingface_hub.utils import get_session

        first = begin + len(found)
        headers = {**self._headers, "Range": f"bytes={first}-{begin + wanted - 1}"}
        request = get_session().stream(
            "GET",
            self._url,
            headers=headers,
            timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT,
            follow_redirects=True,
        )
        with request as response:  # what is not read of it closes the connection
            skipped = self._check(response, first)
            for chunk in response.iter_raw():
                self.fetched += len(chunk)
                unwanted = min(skipped, len(chunk))
                skipped -= unwanted
                found += chunk[unwanted : unwanted + wanted - len(found)]
                if len(found) == wanted:
                    return found
        return None

    def _check(self, response: Any, first: int) -> int:
        """How many bytes to skip of an answer for those from `first` on.

        `response` is the HTTP client's, which varies between versions of huggingface_hub.
        """
        from huggingface_hub.utils import hf_raise_for_status

        if response.status_code == 416:
            self._fail_changed("it has become shorter")
        hf_raise_for_status(response)
        if response.headers.get("Content-Encoding", "identity") != "identity":
            self._fail("the answer is compressed, though that was not asked for")
        self._check_etag(response.headers.get("ETag"))
        if response.status_code == 200:  # a server that knows no ranges begins at the beginning
            self._check_size(response.headers.get("Content-Length", "*"))
            return first
        said = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
        if response.status_code != 206 or said is None or int(said[1]) != first:
            self._fail(f"the answer is not the range from byte {first} on that was asked for")
        self._check_size(said[2])
        return 0

    def _check_size(self, said: str) -> None:
        if said != "*" and int(said) != self.size:
            self._fail_changed(f"it had {self.size} bytes, now {said}")

    def _check_etag(self, etag: str | None) -> None:
        if self._range_etag is not None and etag not in (None, self._range_etag):
            self._fail_changed("its ETag is another one")
        self._range_etag = self._range_etag or etag

    def _fail_changed(self, how: str) -> NoReturn:
        raise IntegrityError(
            f"{self.path}: the file changed while it was being read: {escape_controls(how)}",
            hint="run again; a full commit hash as the revision does not change",
        )

    def _fail(self, what: str) -> NoReturn:
        raise HubError(
            f"{self.path}: {what}",
            hint="check HF_ENDPOINT, and whether a proxy or login page answers instead",
        )


def _retried(request: Callable[[], T | None]) -> T | None:
    """What a request brings, which is made some times more where it brings None or may succeed."""
    for wait in _WAITS:
        try:
            found = request()
        except client_errors() as error:
            if not _may_pass(error):
                raise
        else:
            if found is not None:
                return found
        time.sleep(wait)
    return request()


def _may_pass(error: Exception) -> bool:
    """Whether trying again may help: the connection broke, or the server is busy."""
    response = getattr(error, "response", None)
    return response is None or response.status_code == 429 or response.status_code >= 500


def _is_refused(error: Exception) -> bool:
    response = getattr(error, "response", None)
    return response is not None and response.status_code in (401, 403)


def _same_host(url: str, other: str) -> bool:
    """Whether both addresses are of one server, by scheme, host and port."""
    from urllib.parse import urlsplit

    first, second = urlsplit(url), urlsplit(other)
    return (first.scheme, first.netloc) == (second.scheme, second.netloc)
