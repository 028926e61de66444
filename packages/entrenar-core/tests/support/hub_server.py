"""A hub on the loopback interface: the endpoints that huggingface_hub asks, and what goes wrong."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

COMMIT = "a" * 40
TOKEN = "hf_not_a_secret"


@dataclass
class Stored:
    """A file of `size` bytes, zeros after `head`; lists have what becomes of one GET after the
    other, and are used up.

    elsewhere: kept by another server, to which requests are sent on; ranges: whether ranges are
    served; cuts: where the connection is cut, counted from the answer's first byte; statuses:
    answered instead, to a HEAD those in `heads`; etags, totals, starts: said instead of the true
    ETag, size and place; said: the size that HEAD says; listed: the bytes whose size and hash the
    hub says in lists and to a HEAD.
    """

    head: bytes
    size: int | None = None
    elsewhere: bool = False
    ranges: bool = True
    cuts: list[int] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    heads: list[int] = field(default_factory=list)
    etags: list[str] = field(default_factory=list)
    totals: list[str] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    said: int | None = None
    listed: bytes | None = None

    @property
    def length(self) -> int:
        return len(self.head) if self.size is None else self.size

    @property
    def etag(self) -> str:
        """SHA-256 where another server keeps it, as LFS does, otherwise what git calls it."""
        content = self.head if self.listed is None else self.listed
        if self.elsewhere:
            return hashlib.sha256(content).hexdigest()
        return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()

    def entry(self, path: str) -> dict[str, Any]:
        """The file in the list of a tree."""
        size = self.length if self.listed is None else len(self.listed)
        found = {"type": "file", "path": path, "size": size, "oid": self.etag[:40]}
        lfs = {"oid": self.etag, "size": size, "pointerSize": 130}
        return {**found, "lfs": lfs} if self.elsewhere else found

    def part(self, begin: int, end: int) -> Iterator[bytes]:
        while begin < end:
            piece = min(end - begin, 2**16)
            found = self.head[begin : begin + piece]
            yield found + bytes(piece - len(found))
            begin += piece


@dataclass
class Repository:
    """A model or dataset at one commit, which `revisions` are names of; `others` has it at others.

    `answer` is what every request for it gets instead: status, X-Error-Code, body; `gated` what
    requests for files get.
    """

    files: dict[str, Stored] = field(default_factory=dict)
    answer: tuple[int, str | None, bytes] | None = None
    revisions: tuple[str, ...] = ("main", COMMIT)
    commit: str = COMMIT
    others: tuple["Repository", ...] = ()
    gated: bool = False

    def at(self, revision: str) -> "Repository | None":
        both = (self, *self.others)
        return next((each for each in both if revision in each.revisions), None)


def repository(files: Mapping[str, bytes | Stored]) -> Repository:
    """A repository with these files."""
    kept = {n: f if isinstance(f, Stored) else Stored(f) for n, f in files.items()}
    return Repository(kept)


def branch(name: str, commit: str, files: Mapping[str, bytes | Stored]) -> Repository:
    """What a repository has in another branch."""
    return replace(repository(files), revisions=(name, commit), commit=commit)


@dataclass
class Asked:
    """A request that came: the server's name, `hub` or `store`, and what was said."""

    server: str
    method: str
    path: str
    range: str | None
    token: str | None


class Hub:
    """The hub and the store of large files beside it; `served` counts bytes of bodies by file."""

    def __init__(self, repositories: Mapping[str, Repository]) -> None:
        self.repositories = dict(repositories)
        self.requests: list[Asked] = []
        self.served: Counter[str] = Counter()
        self.endpoint = self.store = ""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub
    name: str

    def log_message(self, *args):
        pass

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def refuse(self, code: str) -> None:
        self.answer(404, b"{}", X_Error_Code=code)

    def do_GET(self) -> None:
        path = unquote(self.path.split("?")[0]).strip("/")
        said = self.headers.get("Range"), self.headers.get("Authorization")
        self.hub.requests.append(Asked(self.name, self.command, path, *said))
        plain = path.removeprefix("api/").removeprefix("models/")
        name = "/".join(plain.split("/")[: 3 if plain.startswith("datasets/") else 2])
        found = self.hub.repositories.get(name)
        if found is None:
            self.refuse("RepoNotFound")
        elif found.answer is not None:
            status, code, body = found.answer
            self.answer(status, body, **({"X_Error_Code": code} if code else {}))
        elif path.startswith("api/"):
            self.describe(name, found, plain.removeprefix(name))
        else:
            self.file(name, found, *path.removeprefix(f"{name}/resolve/").split("/", 1))

    do_HEAD = do_GET

    def describe(self, name: str, found: Repository, rest: str) -> None:
        kind, _, revision = rest.strip("/").partition("/")
        there = found.at(revision or "main")
        if there is None:
            self.refuse("RevisionNotFound")
        elif kind == "tree":
            entries = [file.entry(path) for path, file in there.files.items()]
            self.answer(200, json.dumps(entries).encode())
        else:
            siblings = [{"rfilename": n, "size": f.length} for n, f in there.files.items()]
            said = {"id": name.removeprefix("datasets/"), "sha": there.commit, "siblings": siblings}
            self.answer(200, json.dumps(said).encode())

    def file(self, name: str, found: Repository, revision: str, path: str) -> None:
        there = found.at(revision)
        stored = there and there.files.get(path)
        if there is None:
            self.refuse("RevisionNotFound")
        elif found.gated:
            self.answer(403, b"{}", X_Error_Code="GatedRepo")
        elif stored is None:
            self.refuse("EntryNotFound")
        elif self.command == "HEAD" and stored.heads:
            self.answer(stored.heads.pop(0))
        elif stored.elsewhere and self.name == "hub":
            self.answer(
                302, b"see there", Location=self.hub.store + self.path, X_Repo_Commit=there.commit,
                X_Linked_Etag=f'"{stored.etag}"', X_Linked_Size=str(stored.entry(path)["size"]),
            )  # fmt: skip
        else:
            self.content(f"{name}/{path}", there.commit, stored)

    def content(self, place: str, commit: str, stored: Stored) -> None:
        get, asked = self.command == "GET", self.headers.get("Range")
        if get and stored.statuses:
            self.answer(stored.statuses.pop(0))
            return
        begin, end = 0, stored.length
        if asked and stored.ranges:
            first, last = asked.removeprefix("bytes=").split("-")
            begin, end = int(first), min(int(last) + 1, end) if last else end
        total = stored.totals.pop(0) if get and stored.totals else str(stored.length)
        etag = stored.etags.pop(0) if get and stored.etags else stored.etag
        self.send_response(206 if asked and stored.ranges else 200)
        self.send_header("ETag", f'"{etag}"')
        self.send_header("X-Repo-Commit", commit)
        said = stored.said if stored.said is not None and not get else end - begin
        self.send_header("Content-Length", str(said))
        if asked and stored.ranges:
            start = stored.starts.pop(0) if get and stored.starts else begin
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{total}")
        self.end_headers()
        if get:
            cut = stored.cuts.pop(0) if stored.cuts else end - begin
            self.close_connection = cut < end - begin
            self.send(place, stored.part(begin, min(begin + cut, end)))

    def send(self, place: str, parts: Iterator[bytes]) -> None:
        try:
            for part in parts:
                self.wfile.write(part)
                self.hub.served[place] += len(part)
        except (BrokenPipeError, ConnectionResetError):  # it does not want more
            self.close_connection = True


@contextmanager
def serving(repositories: Mapping[str, Repository]) -> Iterator[Hub]:
    """A hub with these models by name, until the end of the block."""
    hub, running = Hub(repositories), []
    for name in ("hub", "store"):
        handler = type("Named", (Handler,), {"hub": hub, "name": name})
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        running.append((server, thread))
    hub.endpoint, hub.store = (f"http://127.0.0.1:{s.server_port}" for s, _ in running)
    try:
        yield hub
    finally:
        for server, thread in running:
            server.shutdown()
            thread.join()
            server.server_close()


def run_client(script: str, *arguments: str, settings: Mapping[str, str]) -> tuple[Any, str]:
    """What a script prints as JSON, and its stderr: huggingface_hub reads settings at import."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING"))}
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        capture_output=True, text=True, check=False,
        env={**clean, "HF_TOKEN": TOKEN, "HF_HUB_DISABLE_TELEMETRY": "1", **settings},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), done.stderr
