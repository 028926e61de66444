"""Lists of files of datasets: kept, and taken from there when the hub is away, and only then."""

import json
from types import SimpleNamespace

import pytest

from entrenar_common.errors import HubError, NotFoundError
from entrenar_core.io import hub_listing
from entrenar_core.io.hub_errors import Asked, hub_errors
from entrenar_core.io.hub_listing import Listed, Listing, list_dataset
from entrenar_core.io.own_cache import own_cache

NOW, BEFORE = "a" * 40, "b" * 40
FILES = {"ä/x.csv": Listed(3, "0" * 64), "y.csv": Listed(0, None)}


class Hub:
    """Stands in for the requests; `commit` is what it has, `error` is raised instead."""

    def __init__(self):
        self.commit, self.error, self.asked = NOW, None, []

    def ask(self, name, revision):
        self.asked.append(revision)
        with hub_errors(Asked(name, revision, kind="dataset")):
            if self.error is not None:
                raise self.error
        return Listing(name, self.commit, FILES)


@pytest.fixture
def hub(monkeypatch, tmp_path):
    found = Hub()
    monkeypatch.setattr(hub_listing, "_ask", found.ask)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return found


def http_error(status, kind="HfHubHTTPError"):
    from huggingface_hub import errors

    # the class of responses varies between versions of huggingface_hub
    response = SimpleNamespace(status_code=status, headers={}, request=None)
    return getattr(errors, kind)("no", response=response)


def away():
    from huggingface_hub.errors import OfflineModeIsEnabled

    return [OfflineModeIsEnabled("off"), http_error(500), http_error(429), ConnectionError("gone")]


@pytest.mark.parametrize("which", range(4))
def test_the_last_answer_stands_in_where_the_hub_is_away(hub, which):
    first = list_dataset("org/x", "main")
    hub.error = away()[which]
    assert list_dataset("org/x") == list_dataset("org/x", "main") == first
    for other in (("org/y", None), ("org/x", "v1")):
        with pytest.raises(HubError):
            list_dataset(*other)


@pytest.mark.parametrize(
    ("status", "kind", "error"),
    [
        (401, "HfHubHTTPError", HubError),
        (403, "GatedRepoError", HubError),
        (404, "RepositoryNotFoundError", NotFoundError),
        (404, "RevisionNotFoundError", NotFoundError),
    ],
)
def test_what_the_hub_refuses_or_lacks_is_not_read_from_an_old_list(hub, status, kind, error):
    list_dataset("org/x")
    hub.error = http_error(status, kind)
    with pytest.raises(error):
        list_dataset("org/x")


def test_an_answer_that_is_not_a_hubs_is_not_hidden_by_an_old_list(hub):
    list_dataset("org/x")
    hub.error = json.JSONDecodeError("no", "<html>", 0)
    with pytest.raises(HubError, match="not that of a hub"):
        list_dataset("org/x")


def test_a_branch_is_asked_for_each_time_and_a_commit_once(hub):
    list_dataset("org/x")
    hub.commit = BEFORE
    assert list_dataset("org/x").commit == BEFORE
    assert list_dataset("org/x", NOW) == Listing("org/x", NOW, FILES)
    assert hub.asked == [None, None]


@pytest.mark.parametrize("damage", [b"", b"{}", b"[1]", b"\xff"])
def test_a_damaged_list_is_as_if_it_were_not_there(hub, damage):
    list_dataset("org/x")
    for path in own_cache("hub").rglob("*.json"):
        path.write_bytes(damage)
    assert list_dataset("org/x", NOW).commit == NOW
    assert hub.asked == [None, NOW]
    for path in own_cache("hub").rglob("*.json"):
        path.write_bytes(damage)
    hub.error = ConnectionError("gone")
    with pytest.raises(HubError, match="cannot be reached"):
        list_dataset("org/x")


def test_without_a_place_to_keep_it_a_list_is_used_all_the_same(hub, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert list_dataset("org/x").files == FILES
