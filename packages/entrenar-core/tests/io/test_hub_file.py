"""Ranges of bytes from a loopback hub that answers in every way: exact, and none fetched twice."""

import json
import random
from pathlib import PurePosixPath

import pytest

from hub_server import TOKEN, Stored, repository, run_client, serving

pytestmark = pytest.mark.tier2

MODEL = "org/model"
DATA = random.Random(0).randbytes(300_000)
HUGE = 13 * 10**9
SPACED = "sub folder/ünï #1?%41.bin"

FILES = {
    "plain.bin": Stored(DATA),
    "empty.bin": Stored(b""),
    SPACED: Stored(DATA),
    "elsewhere.bin": Stored(DATA, elsewhere=True),
    "cut.bin": Stored(DATA, cuts=[100, 0, 50]),
    "cut-elsewhere.bin": Stored(DATA, elsewhere=True, cuts=[70_000]),
    "always-cut.bin": Stored(DATA, cuts=[0] * 99),
    "busy.bin": Stored(DATA, statuses=[503, 429], heads=[500, 429]),
    "failing.bin": Stored(DATA, statuses=[500] * 99),
    "no-head.bin": Stored(DATA, heads=[502] * 99),
    "refused.bin": Stored(DATA, statuses=[403] * 99),
    "no-ranges.bin": Stored(DATA, HUGE, ranges=False),
    "no-ranges-cut.bin": Stored(DATA, ranges=False, cuts=[500]),
    "unknown-total.bin": Stored(DATA, totals=["*"]),
    "other-total.bin": Stored(DATA, totals=["300000", "300001"]),
    "other-etag.bin": Stored(DATA, etags=["one", "two"]),
    "no-ranges-other-size.bin": Stored(DATA, ranges=False, said=299_999),
    "shorter.bin": Stored(DATA, statuses=[416]),
    "moved.bin": Stored(DATA, elsewhere=True, statuses=[403]),
    "refused-elsewhere.bin": Stored(DATA, elsewhere=True, statuses=[403] * 99),
    "other-range.bin": Stored(DATA, starts=[7]),
}
TAKEN = {
    "plain.bin": [(0, 10), (10, 20), (299_990, 50), (300_000, 5), (7, 0)],
    "empty.bin": [(0, 100)],
    "no-ranges.bin": [(0, 1000), (200_000, 70_000)],
    "other-total.bin": [(0, 10), (10, 10)],
    "other-etag.bin": [(0, 10), (10, 10)],
}
USUAL = [(0, 100_000)]

CHILD = """
import json, sys
from entrenar_common.errors import EntrenarError
from entrenar_core.io import hub_file
hub_file._WAITS = (0.0,) * 5  # as often as else, sooner
found = {}
for name, ranges in json.loads(sys.argv[1]).items():
    try:
        file = hub_file.HubFile("org/model", name)
        parts = [file.take(begin, length).hex() for begin, length in ranges]
        found[name] = ["ok", parts, file.size, file.etag, file.fetched]
    except EntrenarError as error:
        found[name] = [type(error).__name__, str(error), error.hint]
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def taken(tmp_path_factory):
    """What the client got of each file, and the hub."""
    asked = {name: TAKEN.get(name, USUAL) for name in [*FILES, "none.bin"]}
    with serving({MODEL: repository(FILES)}) as hub:
        settings = {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path_factory.mktemp("hf"))}
        found, said = run_client(CHILD, json.dumps(asked), settings=settings)
    assert said == ""  # a library prints nothing
    return found, hub


def ranges(hub, name):
    """What GETs asked for, in order."""
    gets = [r for r in hub.requests if r.method == "GET" and PurePosixPath(r.path).name == name]
    return [r.range for r in gets]


@pytest.mark.parametrize(
    "name",
    ["plain.bin", "empty.bin", SPACED, "elsewhere.bin", "cut.bin", "cut-elsewhere.bin", "busy.bin",
     "moved.bin", "no-ranges.bin", "no-ranges-cut.bin", "unknown-total.bin"],
)  # fmt: skip
def test_the_bytes_are_those_of_the_file(taken, name):
    kind, parts, size, etag, _ = taken[0][name]
    stored = FILES[name]
    asked = TAKEN.get(name, USUAL)
    assert kind == "ok"
    assert [bytes.fromhex(part) for part in parts] == [stored.head[b : b + n] for b, n in asked]
    assert (size, etag) == (stored.length, stored.etag)


@pytest.mark.parametrize(
    "name", ["plain.bin", SPACED, "elsewhere.bin", "cut.bin", "cut-elsewhere.bin", "busy.bin"]
)
def test_what_is_fetched_is_what_was_asked_for(taken, name):
    fetched = taken[0][name][4]
    wanted = sum(max(0, min(n, len(DATA) - b)) for b, n in TAKEN.get(name, USUAL))
    assert fetched == wanted
    assert taken[1].served[f"{MODEL}/{name}"] == wanted


def test_after_a_cut_only_what_is_missing_is_asked_for(taken):
    expected = ["bytes=0-99999", "bytes=100-99999", "bytes=100-99999", "bytes=150-99999"]
    assert ranges(taken[1], "cut.bin") == expected


def test_the_token_goes_to_the_hub_and_to_no_other_server(taken):
    requests = taken[1].requests
    assert {r.token for r in requests if r.server == "hub"} == {f"Bearer {TOKEN}"}
    assert {r.token for r in requests if r.server == "store"} == {None}
    asked = [r for r in requests if r.path.endswith("/elsewhere.bin")]
    assert [(r.server, r.method) for r in asked] == [("hub", "HEAD"), ("store", "GET")]


def test_an_address_that_is_no_longer_good_is_asked_for_again(taken):
    asked = [r for r in taken[1].requests if r.path.endswith("/moved.bin")]
    assert [(r.server, r.method) for r in asked] == [("hub", "HEAD"), ("store", "GET")] * 2


def test_of_a_server_without_ranges_no_more_is_read_than_needed(taken):
    needed = 1000 + 270_000
    assert needed <= taken[0]["no-ranges.bin"][4] < needed + 2 * 2**20


# name: the error's class, what its text says, how many GETs there were
FAILURES = {
    "always-cut.bin": ("HubError", "cannot be reached", 6),
    "failing.bin": ("HubError", "failed (status 500)", 6),
    "no-head.bin": ("HubError", "failed (status 502)", 0),
    "refused.bin": ("HubError", "refuses access (status 403)", 1),
    "refused-elsewhere.bin": ("HubError", "refuses access (status 403)", 2),
    "other-total.bin": ("IntegrityError", "had 300000 bytes, now 300001", 2),
    "other-etag.bin": ("IntegrityError", "changed while it was being read", 2),
    "no-ranges-other-size.bin": ("IntegrityError", "had 299999 bytes, now 300000", 1),
    "shorter.bin": ("IntegrityError", "has become shorter", 1),
    "other-range.bin": ("HubError", "not the range from byte 0 on", 1),
    "none.bin": ("NotFoundError", "no such file", 0),
}


@pytest.mark.parametrize("name", FAILURES)
def test_each_failure_says_what_it_is(taken, name):
    found, hub = taken
    expected, said, requests = FAILURES[name]
    kind, text, hint = found[name]
    assert (kind, said in text, bool(hint)) == (expected, True, True), text
    assert text.startswith(f"{MODEL}/{name}: ")
    assert TOKEN not in text + hint
    assert len(ranges(hub, name)) == requests
