"""Datasets of a loopback hub: which documents they have, and how they are fetched."""

import itertools
import json
import shutil
from pathlib import Path

import pytest

from entrenar_common.errors import ConfigError
from entrenar_core.data.hub_dataset import HubSpec
from entrenar_core.data.sources import DatasetSpec
from hub_datasets import (
    BIG,
    CHUNK,
    CONVERTED,
    GROUP,
    LONG,
    OLD,
    ROWS,
    column_bytes,
    repositories,
    texts,
    texts_of,
)
from hub_server import COMMIT, TOKEN, run_client, serving

pytestmark = pytest.mark.tier2

CHILD = """
import json, sys
from entrenar_common.errors import EntrenarError
from entrenar_core.data.hub_dataset import HubSpec
from entrenar_core.data.sources import DatasetSpec, iter_documents
from entrenar_core.io import hub_file
hub_file._WAITS = (0.0,) * 5  # as often as else, sooner
found = []
for spec, limit in json.loads(sys.argv[1]):
    try:
        data = DatasetSpec(hub=HubSpec(**spec), max_documents=limit)
        found.append([[document.name, document.text] for document in iter_documents(data)])
    except EntrenarError as error:
        found.append([type(error).__name__, str(error), error.hint, error.exit_code])
print(json.dumps(found))
"""


class Client:
    """Reads datasets in other processes, and keeps what was asked of the hub meanwhile."""

    def __init__(self, hub, home):
        self.hub, self.home = hub, home

    def read(self, *specs, limit=None, **settings):
        """Names and texts of documents, or an error's class, text, hint and code, for each."""
        where = {
            "HF_ENDPOINT": self.hub.endpoint, "HF_HOME": str(self.home / "hf"),
            "XDG_CACHE_HOME": str(self.home / "cache"), **settings,
        }  # fmt: skip
        asked = [[{**spec, "name": f"org/{spec['name']}"}, limit] for spec in specs]
        self.hub.requests.clear()
        self.hub.served.clear()
        found, self.said = run_client(CHILD, json.dumps(asked), settings=where)
        self.requests = list(self.hub.requests)
        return found

    def copy(self, folder):
        """A client with what this one has in its caches."""
        return Client(self.hub, Path(shutil.copytree(self.home, folder, symlinks=True)))


@pytest.fixture(scope="module")
def hub():
    with serving(repositories()) as running:
        yield running


@pytest.fixture
def client(hub, tmp_path):
    return Client(hub, tmp_path)


DOCUMENTS = {
    "shards": ({}, texts(3, "a") + texts(3, "b")),
    "shards test": ({"split": "test"}, texts(2, "t")),
    "shards by commit": ({"revision": COMMIT, "subset": "default"}, texts(3, "a") + texts(3, "b")),
    "configs": ({}, texts(3, "de")),
    "configs en": ({"subset": "en"}, texts(2, "en 0") + texts(2, "en 1")),
    "configs en test": ({"subset": "en", "split": "test"}, texts(1, "held")),
    "csv": ({"split": "validation"}, ["one", "t\nwo"]),
    "story": ({}, ["A time.", "Once.\nUpon.\n"]),
    "script": ({}, texts(4, "made")),
    "script by commit": ({"revision": CONVERTED}, texts(4, "made")),
    "script by branch": ({"revision": "refs/convert/parquet"}, texts(4, "made")),
    "archives a": ({"subset": "a"}, texts(2, "a")),
    "archives b": ({"subset": "b", "split": "partial-test"}, texts(1, "part")),
    "moved": ({}, texts(2, "new")),
    "moved old": ({"revision": "old"}, texts(2, "old")),
    "moved by commit": ({"revision": OLD}, texts(2, "old")),
}
SPECS = [{"name": key.split(" ")[0], **options} for key, (options, _) in DOCUMENTS.items()]


@pytest.fixture(scope="module")
def caches(hub, tmp_path_factory):
    """A client that has downloaded all of DOCUMENTS, and not changed again."""
    return Client(hub, tmp_path_factory.mktemp("downloaded"))


@pytest.fixture(scope="module")
def downloaded(caches):
    found = caches.read(*SPECS)
    assert caches.said == ""  # a library prints nothing
    return dict(zip(DOCUMENTS, found, strict=True))


@pytest.fixture(scope="module")
def streams(hub, tmp_path_factory):
    return Client(hub, tmp_path_factory.mktemp("streamed"))


@pytest.fixture(scope="module")
def streamed(streams):
    found = streams.read(*({**spec, "streaming": True} for spec in SPECS))
    assert streams.said == ""
    return dict(zip(DOCUMENTS, found, strict=True))


@pytest.mark.parametrize("key", DOCUMENTS)
def test_a_dataset_has_the_documents_of_its_split(downloaded, key):
    assert [text for _, text in downloaded[key]] == DOCUMENTS[key][1]


@pytest.mark.parametrize("key", DOCUMENTS)
def test_streamed_documents_are_those_that_are_downloaded(downloaded, streamed, key):
    assert streamed[key] == downloaded[key]


def test_texts_are_those_that_pyarrow_reads(downloaded):
    files = repositories()["datasets/org/shards"].files
    paths = sorted(path for path in files if path.startswith("data/train-"))
    expected = [text for path in paths for text in texts_of(files[path].head)]
    assert [text for _, text in downloaded["shards"]] == expected


def test_documents_are_named_by_dataset_commit_file_and_row(downloaded):
    assert [name for name, _ in downloaded["shards"]][2:4] == [
        "org/shards@aaaaaaa:data/train-00000-of-00002.parquet#3",
        "org/shards@aaaaaaa:data/train-00001-of-00002.parquet#1",
    ]
    assert downloaded["moved old"][0][0] == "org/moved@bbbbbbb:train.jsonl#1"
    assert downloaded["script"][0][0] == "org/script@ccccccc:default/train/0000.parquet#1"
    assert downloaded["story"][0][0] == "org/story@aaaaaaa:chapter.txt"
    assert downloaded["csv"][1][0] == "org/csv@aaaaaaa:valid.csv#3"


# --- how much is fetched ----------------------------------------------------------------------


def fetched(hub, name):
    return sum(n for path, n in hub.served.items() if path.startswith(f"datasets/org/{name}/"))


def test_of_parquet_the_text_column_is_streamed_and_each_byte_once(client, hub):
    (found,) = client.read({"name": "big", "streaming": True})
    assert [text for _, text in found] == BIG
    data = hub.repositories["datasets/org/big"].files["train.parquet"].head
    assert column_bytes(data) < fetched(hub, "big") <= column_bytes(data) + 2**16 < len(data) / 3
    ranges = sorted(
        tuple(map(int, r.range.removeprefix("bytes=").split("-")))
        for r in hub.requests
        if r.method == "GET" and r.range
    )
    assert len(ranges) <= ROWS // GROUP + 1  # each row group, and the footer
    assert all(last < first for (_, last), (first, _) in itertools.pairwise(ranges))


def test_a_limit_of_documents_stops_fetching(client, hub):
    table, lines = client.read(
        {"name": "big", "streaming": True}, {"name": "big-lines", "streaming": True}, limit=GROUP
    )
    assert [text for _, text in table] == BIG[:GROUP]
    assert [text for _, text in lines] == texts(GROUP, "lines")
    total = hub.repositories["datasets/org/big"].files["train.parquet"].length
    assert fetched(hub, "big") < total / 30  # a row group and the footer
    total = hub.repositories["datasets/org/big-lines"].files["train.jsonl"].length
    assert fetched(hub, "big-lines") == 8 * 2**20 < total  # what is read ahead


def test_a_limit_of_documents_leaves_further_files_where_they_are(client, hub):
    client.read({"name": "shards"}, limit=3)
    gets = {r.path.rsplit("/", 1)[-1] for r in hub.requests if r.method == "GET"}
    assert "train-00000-of-00002.parquet" in gets
    assert gets.isdisjoint({"train-00001-of-00002.parquet", "test-00000-of-00001.parquet"})


def test_a_download_that_is_cut_goes_on_where_it_was(client, hub):
    (found,) = client.read({"name": "cut"})
    assert [text for _, text in found] == LONG
    asked = [r.range for r in hub.requests if r.method == "GET" and r.server == "store"]
    assert asked == [None, f"bytes={CHUNK}-"]


@pytest.mark.usefixtures("downloaded", "streamed")
def test_the_token_goes_to_the_hub_alone(caches, streams):
    for requests in (caches.requests, streams.requests):
        assert {r.token for r in requests if r.server == "hub"} == {f"Bearer {TOKEN}"}
        assert {r.token for r in requests if r.server == "store"} == {None}


@pytest.mark.usefixtures("streamed")
def test_a_stream_leaves_no_copy_of_the_data(streams):
    kept = [path for path in (streams.home / "hf").rglob("*") if path.is_file()]
    assert {path.name for path in kept if path.is_symlink()} == {"README.md"}  # it is looked into


# --- without the hub --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings", [{"HF_HUB_OFFLINE": "1"}, {"HF_ENDPOINT": "http://127.0.0.1:9"}]
)
def test_without_the_hub_what_was_downloaded_is_read(downloaded, caches, hub, tmp_path, settings):
    client = caches.copy(tmp_path / "home")
    (alone, *others) = client.read({"name": "big"}, *SPECS, **settings)
    assert dict(zip(DOCUMENTS, others, strict=True)) == downloaded
    kind, text, hint, code = alone
    assert (kind, code, text.startswith("org/big: ")) == ("HubError", 20, True)
    said = ("not in the cache", "HF_HUB_OFFLINE") if len(settings) == 1 else ()
    assert all(word in text for word in said) or "cannot be reached" in text
    assert "local copy" in hint
    assert hub.requests == []


def test_offline_a_file_that_was_not_downloaded_is_named(client, hub):
    client.read({"name": "shards", "split": "test"})
    train, stream = client.read(
        {"name": "shards"}, {"name": "shards", "streaming": True}, HF_HUB_OFFLINE="1"
    )
    for kind, text, _, _ in (train, stream):
        assert kind == "HubError"
        assert text.startswith("org/shards/data/train-00000-of-00002.parquet: it is not in the ca")


def test_a_commit_that_is_known_is_not_asked_for_again(downloaded, caches, hub, tmp_path):
    client = caches.copy(tmp_path / "home")
    (found,) = client.read({"name": "shards", "revision": COMMIT})
    assert found == downloaded["shards"]
    assert hub.requests == []


# --- what goes wrong --------------------------------------------------------------------------

# the dataset and options: the error's class, exit code, what its text and its hint say
FAILURES = {
    "missing": ("NotFoundError", 14, "no such dataset", "spelling"),
    "private": ("NotFoundError", 14, "no such dataset on the hub (or it is private)", "HF_TOKEN"),
    "gated": ("HubError", 20, "gated", "accept the terms"),
    "refused": ("HubError", 20, "refuses access (status 401)", "may read this dataset"),
    "failing": ("HubError", 20, "failed (status 500)", "later"),
    "login-page": ("HubError", 20, "not that of a hub", "HF_ENDPOINT"),
    "no-commit": ("HubError", 20, "not that of a hub", "HF_ENDPOINT"),
    "shards revision=v9": ("NotFoundError", 14, "no revision 'v9'", "branch"),
    "shards split=dev": ("NotFoundError", 14, "no split 'dev'", "test, train"),
    "shards subset=en": ("NotFoundError", 14, "no subset 'en'", "default"),
    "configs subset=fr": ("NotFoundError", 14, "no subset 'fr'", "en, de"),
    "ambiguous": ("ConfigError", 10, "2 subsets and no default", "en, de"),
    "archives": ("ConfigError", 10, "2 subsets and no default", "a, b"),
    "archives subset=b split=test": ("NotFoundError", 14, "no split 'test'", "partial-test"),
    "archives revision=main": ("UnsupportedError", 15, "files are .gz", "refs/convert/parquet"),
    "archives-only": ("UnsupportedError", 15, "hub has not converted it", ".parquet"),
    "script-only": ("UnsupportedError", 15, "made by a script, script-only.py", "repository"),
    "semicolons": ("UnsupportedError", 15, "read with sep", "download"),
    "nothing": ("UnsupportedError", 15, "no data files", ".parquet"),
    "bad-card": ("FormatError", 11, "README.md: configs: wanted a list", "owner"),
    "wrong-content": ("IntegrityError", 13, "SHA-256 is another", "remove /"),
    "wrong-content-in-git": ("IntegrityError", 13, "git's hash of it is another", "remove /"),
    "wrong-size": ("IntegrityError", 13, "wrong size", "again"),
    "refused-file": ("HubError", 20, "refuses access (status 403)", "HF_TOKEN"),
    "failing-file": ("HubError", 20, "failed (status 500)", "later"),
    "no-rows": ("FormatError", 11, "not a readable Parquet file", "fetch"),
}
STREAMED = {
    "gated": FAILURES["gated"],
    "refused-file": FAILURES["refused-file"],
    "failing-file": FAILURES["failing-file"],
    "wrong-size": ("IntegrityError", 13, "changed while it was being read", "again"),
    "no-rows": FAILURES["no-rows"],
    "script-only": FAILURES["script-only"],
}


def spec_of(key, **options):
    name, *pairs = key.split(" ")
    return {"name": name, **dict(pair.split("=") for pair in pairs), **options}


@pytest.fixture(scope="module")
def failed(hub, tmp_path_factory):
    client = Client(hub, tmp_path_factory.mktemp("failures"))
    keys = [*FAILURES, *(f"{key} streamed" for key in STREAMED)]
    specs = [*map(spec_of, FAILURES), *(spec_of(key, streaming=True) for key in STREAMED)]
    return dict(zip(keys, client.read(*specs), strict=True))


@pytest.mark.parametrize("key", [*FAILURES, *(f"{key} streamed" for key in STREAMED)])
def test_each_failure_says_what_it_is(failed, key):
    kind, text, hint, code = failed[key]
    table = STREAMED if key.endswith(" streamed") else FAILURES
    expected, exit_code, said, hinted = table[key.removesuffix(" streamed")]
    assert (kind, code) == (expected, exit_code), text
    assert said in text
    assert hinted in hint
    assert text.startswith(f"org/{key.split(' ')[0]}")
    assert TOKEN not in text + hint


def test_a_stream_of_another_file_than_is_listed_is_refused(client, hub):
    stored = hub.repositories["datasets/org/shards"].files["data/test-00000-of-00001.parquet"]
    client.read({"name": "shards", "split": "test"})
    before, stored.listed = stored.listed, stored.head[:-1] + b"x"
    try:
        pinned = {"name": "shards", "split": "test", "revision": COMMIT, "streaming": True}
        (found,) = client.read(pinned)
    finally:
        stored.listed = before
    assert found[0] == "IntegrityError"
    assert "another file than it lists" in found[1]


# --- the specification ------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", "a/b/c", "../x", "-x/y", "a\x1b/b"])
def test_what_is_no_name_never_reaches_the_network(name):
    with pytest.raises(ConfigError, match="not a name on the hub"):
        HubSpec(name)


@pytest.mark.parametrize("other", [{"paths": ("x",)}, {"exclude": ("x",)}, {"format": "csv"}])
def test_a_dataset_is_on_the_hub_or_in_files(other):
    with pytest.raises(ConfigError, match="on the hub with paths"):
        DatasetSpec(hub=HubSpec("org/x"), **other)
