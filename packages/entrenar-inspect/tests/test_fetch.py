"""Models downloaded from a loopback hub: what is said of them, and what cannot be had."""

import json
import math
from pathlib import Path

import pytest

from hub_server import COMMIT, TOKEN, Repository, repository, run_client, serving
from small_llama import CONFIG, SHAPES, write_model

pytestmark = pytest.mark.tier2

NUMBERS = sum(math.prod(shape) for shape in SHAPES.values())
GATED = Repository(answer=(403, "GatedRepo", b"{}"))

CHILD = """
import contextlib, io, json, sys
from entrenar_inspect.cli import main

found = {}
for words in sys.argv[1:]:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(["fetch", *words.split()], standalone_mode=False)
    found[words] = [code, out.getvalue(), err.getvalue()]
print(json.dumps(found))
"""
CALLS = [
    "org/llama --json", "org/llama", "hf://org/llama --revision v1 --json", "org/missing",
    "org/llama --revision v9", "org/gated", "./here", "a/b/c",
]  # fmt: skip


@pytest.fixture(scope="module")
def fetched(tmp_path_factory):
    """What each call ended with and printed; the hub; and the calls again when it has gone."""
    home = str(tmp_path_factory.mktemp("hf"))
    folder = write_model(tmp_path_factory.mktemp("hub") / "llama")
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    llama = repository({**files, "pytorch_model.bin": b"never fetched"})
    llama.revisions += ("v1",)
    with serving({"org/llama": llama, "org/gated": GATED}) as hub:
        settings = {"HF_ENDPOINT": hub.endpoint, "HF_HOME": home}
        found, _ = run_client(CHILD, *CALLS, settings=settings)
    again, _ = run_client(CHILD, *CALLS[:1], settings={"HF_HOME": home, "HF_HUB_OFFLINE": "1"})
    return found, hub, again


def test_what_was_fetched_is_said_from_its_headers(fetched):
    code, printed, _ = fetched[0]["org/llama --json"]
    document = json.loads(printed)
    data = document["data"]
    assert (code, document["schema"]) == (0, "entrenar.inspect.fetch/1")
    assert (data["model"], data["revision"], data["commit"]) == ("org/llama", None, COMMIT)
    assert (data["format"], data["family"]) == ("safetensors", "LLaMA")
    assert (data["layers"], data["hidden"]) == (CONFIG["num_hidden_layers"], CONFIG["hidden_size"])
    weights = Path(data["folder"], "model.safetensors").stat().st_size
    assert (data["parameters"], data["nbytes"]) == (NUMBERS, weights)
    assert data["folder"].endswith(COMMIT)


def test_it_is_shown_as_a_sentence_and_facts(fetched):
    code, printed, _ = fetched[0]["org/llama"]
    assert code == 0
    assert printed.startswith("Fetched org/llama (")
    assert "LLaMA, 1 layers, hidden size 8" in printed


def test_a_revision_is_fetched_by_its_name(fetched):
    code, printed, _ = fetched[0]["hf://org/llama --revision v1 --json"]
    assert (code, json.loads(printed)["data"]["revision"]) == (0, "v1")


def test_only_what_a_model_needs_is_fetched(fetched):
    assert not [asked for asked in fetched[1].requests if "pytorch_model" in asked.path]


def test_what_is_in_the_cache_needs_no_network(fetched):
    assert fetched[2]["org/llama --json"][:2] == fetched[0]["org/llama --json"][:2]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ("org/missing", 14, "org/missing"),
        ("org/llama --revision v9", 14, "v9"),
        ("org/gated", 20, "gated"),
        ("./here", 14, "'./here' is not a name on the hub"),
        ("a/b/c", 14, "'a/b/c' is not a name on the hub"),
    ],
)
def test_what_cannot_be_fetched_is_said(fetched, words, code, said):
    found, printed, error = fetched[0][words]
    assert (found, printed) == (code, "")
    assert said in error
    assert TOKEN not in error
