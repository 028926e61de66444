"""Models on a loopback hub: what is opened of a repository, how little is fetched, what is said."""

import json

import pytest

from entrenar_common.errors import ConfigError
from entrenar_inspect.hub_place import HubPlace, parse_place
from entrenar_inspect.opening import open_artifact
from gguf_bytes import TEXT, U16, fields, pair, serialise, tensor, text
from hub_server import COMMIT, TOKEN, Repository, Stored, repository, run_client, serving
from safetensors_bytes import safetensors

CONFIG = {"model_type": "llama", "hidden_size": 4}
CONFIG_BYTES = json.dumps(CONFIG).encode()
CARD = b"---\nlicense: mit\n---\n# A model\n"
CHUNK, GGUF_CHUNK = 2**16, 2**20
FIRST, SECOND = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
INDEX = json.dumps({"weight_map": {"a": FIRST, "b": SECOND}}).encode()
WEIGHTS = Stored(*safetensors(a=(100, 1000)), elsewhere=True)
SPACED = "q 4/modèle α.gguf"


def gguf(*pairs, name: bytes = b"a") -> bytes:
    kept = [pair(b"general.architecture", TEXT, *text(b"llama")), *pairs]
    return serialise(fields(kept, [tensor(name)]), bytes(32))


def part(number: int) -> bytes:
    return gguf(
        pair(b"split.no", U16, (2, number)), pair(b"split.count", U16, (2, 2)), name=b"%d" % number
    )


MODELS = {
    "org/single": repository(
        {
            "model.safetensors": WEIGHTS, "config.json": CONFIG_BYTES, "README.md": CARD,
            "tokenizer.json": Stored(b"{}", 10**6 + 1), "vocab.txt": Stored(b"a", 10**6),
            "consolidated.safetensors": b"never opened", "pytorch_model.bin": b"never opened",
        }
    ),
    "org/sharded": repository(
        {
            "model.safetensors.index.json": INDEX, "config.json": CONFIG_BYTES,
            FIRST: Stored(*safetensors(a=(100, 1000))), SECOND: Stored(*safetensors(b=(100, 1000))),
        }
    ),
    "org/adapter": repository(
        {"adapter_model.safetensors": WEIGHTS, "adapter_config.json": b'{"r": 8}'}
    ),
    "org/gguf": repository({"m.gguf": gguf(), "README.md": CARD}),
    "org/several": repository(
        {
            "b-q8_0.gguf": gguf(), "a-q4_0.gguf": gguf(), SPACED: gguf(),
            "big/m-00001-of-00002.gguf": part(0), "big/m-00002-of-00002.gguf": part(1),
        }
    ),
    "org/other-name": repository({"lora.safetensors": WEIGHTS}),
    "org/named-wrongly": repository({"weights.safetensors": gguf()}),
    "org/pytorch": repository({"pytorch_model.bin": b"PK", "config.json": CONFIG_BYTES}),
    "org/inside": repository({"README.md": CARD, "fp16/model.safetensors": WEIGHTS}),
    "org/nothing": repository({"README.md": CARD}),
    "org/page": repository({"model.safetensors": b"<!DOCTYPE html><html>404</html>" * 9}),
    "org/bad-config": repository({"model.safetensors": WEIGHTS, "config.json": b"[]"}),
    "org/gated": Repository(answer=(403, "GatedRepo", b"{}")),
    "org/not-a-hub": Repository(answer=(200, None, b'{"hello": 1}')),
}  # fmt: skip
MODELS["org/single"].revisions += ("v1.0", "refs/pr/1", "a/branch")

CHILD = """
import json, sys
from entrenar_common.errors import EntrenarError
from entrenar_inspect.opening import open_artifact

def beside(artifact, name):
    content = artifact.beside(name)
    return None if content is None else len(content)

found = {}
for spec in sys.argv[1:]:
    try:
        with open_artifact(spec) as artifact:
            opened = artifact.fetched
            found[spec] = {
                "kind": artifact.kind, "fetched": opened, "config": artifact.config,
                "tensors": [[e.name, e.dtype, e.shape, e.nbytes, e.file, e.begin]
                            for e in artifact.tensors.values()],
                "files": [[f.name, f.nbytes] for f in artifact.files],
                "notes": artifact.notes, "keys": list(artifact.metadata),
                "places": [artifact.path, artifact.model], "remote": artifact.is_remote,
                "beside": {n: beside(artifact, n) for n in (
                    "README.md", "tokenizer.json", "vocab.txt", "adapter_config.json", "README.md",
                )},
                "after": artifact.fetched,
            }
            try:
                artifact.read("a")
            except EntrenarError as error:
                found[spec]["read"] = [type(error).__name__, str(error), error.hint]
    except EntrenarError as error:
        found[spec] = [type(error).__name__, str(error), error.hint, error.details]
print(json.dumps(found))
"""
OPENED = [
    "hf://org/single", "hf://org/single@v1.0", "hf://org/single@refs/pr/1",
    "hf://org/single@a%2Fbranch", f"hf://org/single@{COMMIT}/model.safetensors", "hf://org/sharded",
    f"hf://org/sharded/{SECOND}", "hf://org/adapter", "hf://org/gguf",
    "hf://org/several/a-q4_0.gguf", f"hf://org/several/{SPACED}", "hf://org/several/big",
    "hf://org/several/q 4/", "hf://org/other-name", "hf://org/named-wrongly/weights.safetensors",
    "hf://org/inside/fp16",
]  # fmt: skip
REFUSED = {
    "hf://org/several": ("ConfigError", "2 GGUF files", "such as hf://org/several/a-q4_0.gguf"),
    "hf://org/several/big/m-00002-of-00002.gguf": ("FormatError", "part 2 of 2", "first part"),
    "hf://org/several/a-q4_1.gguf": ("NotFoundError", "no such file", "hf://org/several/a-q4_0"),
    "hf://org/nothing/x": ("NotFoundError", "no such file or folder", "it has README.md"),
    "hf://org/pytorch": ("UnsupportedError", "PyTorch", "hf download org/pytorch pytorch_model"),
    "hf://org/inside": ("NotFoundError", "no weights", "such as hf://org/inside/fp16"),
    "hf://org/nothing": ("NotFoundError", "no weights in it", "check the name"),
    "hf://org/page": ("FormatError", "looks like HTML", "look at it"),
    "hf://org/bad-config": ("FormatError", "config.json: not a JSON object", "model folder"),
    "hf://org/gated": ("HubError", "org/gated: gated", "accept the terms"),
    "hf://org/not-a-hub": ("HubError", "not that of a hub", "HF_ENDPOINT"),
    "hf://org/missing": ("NotFoundError", "org/missing: no such model on the hub", "spelling"),
    "hf://org/single@v2.0": ("NotFoundError", "no revision 'v2.0'", "a branch, a tag"),
}


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """What the client says of each spec, and the hub."""
    with serving(MODELS) as hub:
        settings = {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path_factory.mktemp("hf"))}
        found, said = run_client(CHILD, *OPENED, *REFUSED, settings=settings)
    assert said == ""  # a library prints nothing
    return found, hub


def tensor_a(file: str) -> list:
    return ["a", "F32", [100, 1000], 400_000, file, 0]


@pytest.mark.tier2
@pytest.mark.parametrize("spec", OPENED[:5])
def test_a_model_is_known_by_its_header_and_config(opened, spec):
    found = opened[0][spec]
    assert found["kind"] == "safetensors"
    assert found["tensors"] == [tensor_a("model.safetensors")]
    assert found["files"] == [["model.safetensors", WEIGHTS.length]]
    assert (found["config"], found["notes"]) == (CONFIG, [])
    assert (found["places"], found["remote"]) == ([None, None], True)
    assert found["fetched"] == CHUNK + len(CONFIG_BYTES)


@pytest.mark.tier2
def test_a_small_file_beside_is_fetched_when_it_is_asked_for_and_once(opened):
    found = opened[0]["hf://org/single"]
    assert found["beside"] == {
        "README.md": len(CARD), "tokenizer.json": None, "vocab.txt": 10**6,
        "adapter_config.json": None,
    }  # fmt: skip
    assert found["after"] - found["fetched"] == len(CARD) + 10**6


@pytest.mark.tier2
def test_shards_are_one_model(opened):
    found = opened[0]["hf://org/sharded"]
    assert [e[0] for e in found["tensors"]] == ["a", "b"]
    assert [e[4] for e in found["tensors"]] == [f[0] for f in found["files"]] == [FIRST, SECOND]
    assert found["fetched"] == 2 * CHUNK + len(INDEX) + len(CONFIG_BYTES)


@pytest.mark.tier2
def test_a_shard_alone_says_that_it_is_one(opened):
    found = opened[0][f"hf://org/sharded/{SECOND}"]
    assert [e[0] for e in found["tensors"]] == ["b"]
    expected = f"{SECOND} is one shard of a model: give hf://org/sharded for all of it"
    assert found["notes"] == [expected]


@pytest.mark.tier2
def test_an_adapter_is_opened_where_there_is_no_model(opened):
    found = opened[0]["hf://org/adapter"]
    assert found["tensors"] == [tensor_a("adapter_model.safetensors")]
    assert found["beside"]["adapter_config.json"] == len(b'{"r": 8}')


@pytest.mark.tier2
@pytest.mark.parametrize(
    ("spec", "files"),
    [
        ("hf://org/gguf", ["m.gguf"]),
        ("hf://org/several/a-q4_0.gguf", ["a-q4_0.gguf"]),
        (f"hf://org/several/{SPACED}", [SPACED]),
        ("hf://org/several/q 4/", [SPACED]),
        ("hf://org/several/big", [f"big/m-0000{i}-of-00002.gguf" for i in (1, 2)]),
        ("hf://org/named-wrongly/weights.safetensors", ["weights.safetensors"]),
    ],
)
def test_a_gguf_file_is_opened_whatever_it_is_called(opened, spec, files):
    found = opened[0][spec]
    assert (found["kind"], found["keys"]) == ("GGUF", ["general.architecture"])
    assert [f[0] for f in found["files"]] == files == [e[4] for e in found["tensors"]]


@pytest.mark.tier2
@pytest.mark.parametrize(
    ("spec", "file"),
    [
        ("hf://org/other-name", "lora.safetensors"),
        ("hf://org/inside/fp16", "fp16/model.safetensors"),
    ],
)
def test_the_only_file_of_a_folder_is_opened(opened, spec, file):
    assert opened[0][spec]["tensors"] == [tensor_a(file)]


@pytest.mark.tier2
def test_of_weights_nothing_but_headers_is_served(opened):
    _, hub = opened
    opens = sum(spec.startswith("hf://org/single") for spec in OPENED)
    assert hub.served["org/single/model.safetensors"] == opens * CHUNK
    assert hub.served["org/single/consolidated.safetensors"] == 0
    assert hub.served["org/single/tokenizer.json"] == 0
    assert {r.token for r in hub.requests if r.server == "store"} == {None}


@pytest.mark.tier2
@pytest.mark.parametrize("name", ["sharded", "adapter", "gguf", "other-name"])
def test_a_copy_on_this_machine_is_described_in_the_same_words(opened, tmp_path, name):
    for file, stored in MODELS[f"org/{name}"].files.items():
        (tmp_path / file).write_bytes(b"".join(stored.part(0, stored.length)))
    found = opened[0][f"hf://org/{name}"]
    with open_artifact(str(tmp_path)) as local:
        assert found["kind"] == local.kind
        assert found["config"] == local.config
        assert found["files"] == [[f.name, f.nbytes] for f in local.files]
        assert found["tensors"] == [
            [e.name, e.dtype, list(e.shape), e.nbytes, e.file, e.begin]
            for e in local.tensors.values()
        ]
        assert found["keys"] == list(local.metadata)


@pytest.mark.tier2
def test_values_of_tensors_are_not_fetched(opened):
    kind, said, hint = opened[0]["hf://org/single"]["read"]
    assert (kind, "hf download org/single" in hint) == ("UnsupportedError", True)
    assert "values of tensors on the hub are not fetched" in said


@pytest.mark.tier2
@pytest.mark.parametrize("spec", REFUSED)
def test_each_failure_says_what_it_is_and_what_to_do(opened, spec):
    kind, said, hint, _ = opened[0][spec]
    expected_kind, expected, hinted = REFUSED[spec]
    assert (kind, expected in said, hinted in hint) == (expected_kind, True, True), (said, hint)
    assert TOKEN not in said + hint


@pytest.mark.tier2
def test_several_files_are_listed(opened):
    _, _, _, details = opened[0]["hf://org/several"]
    size = len(gguf())
    names = ("a-q4_0.gguf", "b-q8_0.gguf")
    assert details == [f"hf://org/several/{name} ({size} B)" for name in names]


@pytest.mark.tier2
def test_offline_nothing_is_asked(tmp_path):
    settings = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    found, _ = run_client(CHILD, "hf://org/single", settings=settings)
    kind, said, hint, _ = found["hf://org/single"]
    assert (kind, said) == (
        "HubError", "org/single: it is on the hub, and offline mode is on (HF_HUB_OFFLINE)",
    )  # fmt: skip
    assert "HF_HUB_OFFLINE" in hint


@pytest.mark.parametrize(
    ("spec", "place"),
    [
        ("hf://org/name", ("org/name", "", "")),
        ("hf://org/name/", ("org/name", "", "")),
        ("hf://org/name@v1", ("org/name", "v1", "")),
        ("hf://org/name@v1/a b/ü@2.gguf", ("org/name", "v1", "a b/ü@2.gguf")),
        ("hf://org/name/a@b", ("org/name", "", "a@b")),
        ("hf://org/name@refs/pr/12/x", ("org/name", "refs/pr/12", "x")),
        ("hf://org/name@refs/convert/gguf", ("org/name", "refs/convert/gguf", "")),
        ("hf://org/name@fix%2Fit/x", ("org/name", "fix/it", "x")),
    ],
)
def test_a_place_has_its_parts(spec, place):
    assert parse_place(spec) == HubPlace(*place)


def test_a_place_is_written_as_it_is_read():
    place = parse_place("hf://org/name@fix%2Fit/x")
    assert parse_place(place.spec("y z")) == HubPlace("org/name", "fix/it", "y z")
    assert HubPlace("org/name", "", "x").spec("") == "hf://org/name"


@pytest.mark.parametrize(
    "spec",
    ["hf://", "hf:///", "hf://a", "hf://a/", "hf:///a/b", "hf://a/b@", "hf://a/b@/c", "hf://a@b/c",
     "hf://../b", "hf://a/..", "hf://a/b/../c", "hf://a/b/./c", "hf://a/b//c", "hf://a/b@..",
     "hf://a/b@x%2F..", "hf://a/b@x%0Ay", "hf://a/b/c\x1b[2J", "hf://a\n/b", "hf://a/b/\udc80",
     "hf://a b/c", "hf://a--b/c"],
)  # fmt: skip
def test_a_malformed_place_is_refused_with_the_right_form(spec):
    with pytest.raises(ConfigError) as caught:
        open_artifact(spec)
    assert str(caught.value).isprintable()
    assert "hf://org/name@revision" in caught.value.hint
