"""Finding a model: folders, and a hub on the loopback interface that answers in every way."""

from pathlib import Path

import pytest

from entrenar_common.errors import NotFoundError
from entrenar_core.io import hub
from entrenar_core.io.hub import fetch_model, resolve_model
from hub_server import TOKEN, Repository, Stored, repository, run_client, serving

FILES = {
    "config.json": b'{"model_type": "llama"}',
    "model.safetensors": b"\x02\0\0\0\0\0\0\0{}",
    "tokenizer.model": b"t",
    "README.md": b"not wanted",
    "pytorch_model.bin": b"not wanted",
    "onnx/config.json": b"not wanted",
    "../../outside.json": b"not wanted",
}
WANTED = ["config.json", "model.safetensors", "tokenizer.model"]

# what the hub answers for org/<name>: status, X-Error-Code, body
ANSWERS = {
    "missing": (404, "RepoNotFound", b"{}"),
    "missing-on-a-mirror": (404, None, b"{}"),
    "no-revision": (404, "RevisionNotFound", b"{}"),
    "gated-unknown-user": (401, "GatedRepo", b"{}"),
    "gated-known-user": (403, "GatedRepo", b"{}"),
    "unauthorized": (401, None, b"{}"),
    "forbidden": (403, None, b"{}"),
    "rate-limited": (429, None, b"slow down"),
    "failing": (500, None, b"oops"),
    "login-page": (200, None, b"<html>please log in</html>"),
}

# name: the error's class, what its text says, what its hint says
EXPECTED = {
    "missing": ("NotFoundError", "no such model", "spelling"),
    "missing-on-a-mirror": ("NotFoundError", "no such model", "spelling"),
    "no-revision": ("NotFoundError", "no revision 'main'", "branch"),
    "gated-unknown-user": ("HubError", "gated", "accept the terms"),
    "gated-known-user": ("HubError", "gated", "accept the terms"),
    "unauthorized": ("HubError", "refuses access (status 401)", "HF_TOKEN"),
    "forbidden": ("HubError", "refuses access (status 403)", "HF_TOKEN"),
    "rate-limited": ("HubError", "rate limit", "wait"),
    "failing": ("HubError", "failed (status 500)", "later"),
    "login-page": ("HubError", "not that of a hub", "HF_ENDPOINT"),
    "refused-file": ("HubError", "refuses access (status 403)", "HF_TOKEN"),
    "cut-file": ("IntegrityError", "wrong size", "again"),
}


@pytest.fixture(scope="module")
def endpoint():
    models = {f"org/{name}": Repository(answer=answer) for name, answer in ANSWERS.items()}
    weights = FILES["model.safetensors"]
    refused = Stored(weights, statuses=[403] * 9)
    cut = Stored(weights[:-2], said=len(weights))
    for name, kept in (("good", weights), ("refused-file", refused), ("cut-file", cut)):
        models[f"org/{name}"] = repository({**FILES, "model.safetensors": kept})
    with serving(models) as hub:
        yield hub.endpoint


CHILD = """
import json, sys
from entrenar_common.errors import EntrenarError
from entrenar_core.io.hub import resolve_model
found = {}
for spec in sys.argv[1:]:
    try:
        found[spec] = ["ok", str(resolve_model(spec)), ""]
    except EntrenarError as error:
        found[spec] = [type(error).__name__, str(error), error.hint]
print(json.dumps(found))
"""


def resolve_in_child(*specs: str, quiet: bool = True, **settings: str) -> dict[str, list[str]]:
    """Class, text and hint for each spec."""
    found, said = run_client(CHILD, *specs, settings=settings)
    assert not quiet or said == ""  # a library prints nothing
    return found


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("hf")


@pytest.fixture(scope="module")
def found(endpoint, home):
    """What one process got for all models; org/good is in the cache of `home` afterwards."""
    specs = [f"org/{name}" for name in ("good", *EXPECTED)]
    return resolve_in_child(*specs, HF_ENDPOINT=endpoint, HF_HOME=str(home))


@pytest.mark.tier2
def test_a_model_is_downloaded_without_what_is_not_wanted(found, home):
    kind, folder, _ = found["org/good"]
    assert kind == "ok"
    files = {p.relative_to(folder).as_posix() for p in Path(folder).rglob("*") if p.is_file()}
    assert sorted(files) == WANTED
    for name in WANTED:
        assert (Path(folder) / name).read_bytes() == FILES[name]
    assert not list(home.parent.rglob("outside.json"))


@pytest.mark.tier2
@pytest.mark.parametrize("name", EXPECTED)
def test_each_failure_says_what_it_is(found, name):
    kind, text, hint = found[f"org/{name}"]
    expected_kind, said, hinted = EXPECTED[name]
    assert kind == expected_kind
    assert text.startswith(f"org/{name}: ")
    assert said in text
    assert hinted in hint
    assert TOKEN not in text + hint


@pytest.mark.tier2
@pytest.mark.usefixtures("found")
def test_offline_the_cache_is_used_and_its_lack_is_named(endpoint, home):
    settings = {"HF_ENDPOINT": endpoint, "HF_HOME": str(home), "HF_HUB_OFFLINE": "1"}
    offline = resolve_in_child("org/good", "org/other", **settings)
    assert offline["org/good"][0] == "ok"
    assert offline["org/other"][0] == "HubError"
    assert "offline mode is on (HF_HUB_OFFLINE)" in offline["org/other"][1]


@pytest.mark.tier2
@pytest.mark.usefixtures("found")
def test_without_a_network_the_cache_is_used_and_the_cause_is_named(home):
    nobody = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(home)}
    down = resolve_in_child("org/good", "org/other", **nobody)
    assert down["org/good"][0] == "ok"
    assert down["org/other"][0] == "HubError"
    assert "cannot be reached" in down["org/other"][1]


@pytest.mark.tier2
def test_a_cache_that_cannot_be_written_is_a_storage_error(endpoint, tmp_path):
    (tmp_path / "file").touch()
    settings = {"HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path / "file" / "below")}
    kind, text, hint = resolve_in_child("org/good", quiet=False, **settings)["org/good"]
    assert (kind, "HF_HOME" in hint) == ("StorageError", True), text


def test_a_folder_is_returned_as_it_is(tmp_path, monkeypatch):
    assert resolve_model(str(tmp_path)) == tmp_path
    (tmp_path / "org" / "model").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert resolve_model("org/model") == Path("org/model")


def test_what_is_asked_of_the_hub_is_not_taken_from_a_folder_of_that_name(tmp_path, monkeypatch):
    (tmp_path / "org" / "model").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(hub, "_download", lambda name, revision: Path("cache", name, revision))
    assert fetch_model("org/model", "v1") == Path("cache/org/model/v1")
    with pytest.raises(NotFoundError):
        fetch_model("./org", "v1")


def test_a_file_is_not_a_model(tmp_path):
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(NotFoundError, match="a file, not a model's folder"):
        resolve_model(tmp_path / "model.safetensors")


@pytest.mark.parametrize(
    "spec",
    ["./none", "/none/here", "a/b/c", "", "org/", "../x", "a b", "org/--x", "-x", "a\x1b[2J"],
)
def test_what_is_neither_folder_nor_name_never_reaches_the_network(spec, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(NotFoundError, match="not a name on the hub") as caught:
        resolve_model(spec)
    assert str(caught.value).isprintable()
