"""Headers of weights on a loopback hub: what they say, and that nothing else is fetched."""

import json

import pytest

from gguf_bytes import F32, TEXT, U16, U32, array, fields, pair, serialise, tensor, text
from hub_server import Stored, repository, run_client, serving
from safetensors_bytes import safetensors

pytestmark = pytest.mark.tier2

CHUNK = 2**16  # of safetensors; of GGUF it is 2²⁰
AROUND = [CHUNK + i for i in (-9, -8, -7, -1, 0, 1, 7, 8, 9)]
AROUND += [100_000 + i for i in (-8, -1, 0, 1)]  # of another client's chunk
VOCABULARY = [f"token{i}".encode() for i in range(150_000)]


def index(**shards: str) -> bytes:
    return json.dumps({"metadata": {}, "weight_map": shards}).encode()


def part(number: int, *pairs, name: bytes) -> bytes:
    """One of two parts of a GGUF model, with a tensor of 8 numbers."""
    kept = [pair(b"split.no", U16, (2, number)), pair(b"split.count", U16, (2, 2)), *pairs]
    return serialise(fields(kept, [tensor(name)]), bytes(32))


def vocabulary() -> bytes:
    tokens = [f for word in VOCABULARY for f in text(word)]
    count = len(VOCABULARY)
    head = fields(
        [
            pair(b"general.architecture", TEXT, *text(b"llama")),
            array(b"tokenizer.ggml.tokens", TEXT, count, *tokens),
            array(b"tokenizer.ggml.scores", F32, count, bytes(4 * count)),
        ],
        [tensor(b"output.weight", (32, 10**6), 2)],
    )
    return serialise(head, b"")


FIRST, SECOND = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
GGUF_BYTES = vocabulary()
MODELS = {
    **{
        f"org/header-of-{length}": {
            "model.safetensors": Stored(*safetensors(length, a=(1000, 1000)))
        }
        for length in AROUND
    },
    "org/small": {"model.safetensors": Stored(*safetensors(a=(1, 2)))},
    "org/huge": {"model.safetensors": Stored(*safetensors(a=(10**6, 3250)), elsewhere=True)},
    "org/long": {"model.safetensors": Stored(*safetensors(30_000_000, a=(1, 2)), elsewhere=True)},
    "org/sharded": {
        "model.safetensors.index.json": index(a=FIRST, b=FIRST, c=SECOND),
        FIRST: Stored(*safetensors(a=(10**5, 10), b=(1, 1))),
        SECOND: Stored(*safetensors(c=(10**5, 20))),
    },
    "org/shard-missing": {
        "model.safetensors.index.json": index(a=FIRST, c=SECOND),
        FIRST: Stored(*safetensors(a=(1, 1))),
    },
    "org/shard-cut": {
        "model.safetensors.index.json": index(a=FIRST, c=SECOND),
        FIRST: Stored(*safetensors(a=(1, 1))),
        SECOND: Stored(safetensors(c=(1, 1))[0]),
    },
    "org/listed-wrongly": {
        "model.safetensors.index.json": index(a=FIRST, d=FIRST),
        FIRST: Stored(*safetensors(a=(1, 1))),
    },
    "org/no-weights": {"README.md": b"# hello"},
    "org/vocabulary": {"m.gguf": Stored(GGUF_BYTES, len(GGUF_BYTES) + 18 * 10**6)},
    "org/vocabulary-cut": {"m.gguf": Stored(GGUF_BYTES, len(GGUF_BYTES) + 17 * 10**6)},
    "org/endless": {
        "m.gguf": Stored(
            serialise(fields([pair(b"a", 9, (4, U32), (8, 2**29))])), 2**40, elsewhere=True
        )
    },
    "org/parts": {
        "q/m-00001-of-00002.gguf": part(0, name=b"a"),
        "q/m-00002-of-00002.gguf": part(1, name=b"b"),
    },
    "org/part-missing": {"m-00001-of-00002.gguf": part(0, name=b"a")},
    "org/part-of-another": {
        "m-00001-of-00002.gguf": part(0, name=b"a"),
        "m-00002-of-00002.gguf": part(0, name=b"b"),
    },
}

CHILD = """
import json, sys
from entrenar_common.errors import EntrenarError
from entrenar_core.io.hub_headers import read_gguf
from entrenar_core.io.hub_model import HubModel
from entrenar_core.io.hub_weights import gguf_of, safetensors_of
found = {}
for name in sys.argv[1:]:
    try:
        model = HubModel(name)
        first = next((file for file in sorted(model.sizes) if file.endswith(".gguf")), None)
        if first is None:
            weights = safetensors_of(model)
        else:
            weights = gguf_of(model, read_gguf(model.open(first)))
        if weights is None:
            found[name] = ["ok", None, {}, model.fetched]
            continue
        tensors = {n: t.shape for file in weights.files for n, t in file.tensors.items()}
        keys = {k: v if isinstance(v, str) else len(v) for k, v in weights.metadata.items()}
        if "tokenizer.ggml.tokens" in keys:
            keys["last"] = weights.metadata.strings("tokenizer.ggml.tokens")[-1]
        found[name] = ["ok", tensors, keys, model.fetched]
    except EntrenarError as error:
        found[name] = [type(error).__name__, str(error), error.hint]
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def read(tmp_path_factory):
    """What the client found of each model, and the hub."""
    with serving({name: repository(files) for name, files in MODELS.items()}) as hub:
        settings = {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path_factory.mktemp("hf"))}
        found, said = run_client(CHILD, *MODELS, settings=settings)
    assert said == ""  # a library prints nothing
    return found, hub


@pytest.mark.parametrize("length", AROUND)
def test_of_a_header_of_any_length_exactly_what_the_first_request_lacked_is_fetched(read, length):
    found, hub = read
    name = f"org/header-of-{length}"
    assert found[name] == ["ok", {"a": [1000, 1000]}, {}, max(length, CHUNK)]
    gets = [r.range for r in hub.requests if f"{name}/resolve" in r.path and r.method == "GET"]
    rest = [f"bytes={CHUNK}-{length - 1}"] if length > CHUNK else []
    assert gets == [f"bytes=0-{CHUNK - 1}", *rest]


def test_a_file_shorter_than_the_first_request_is_fetched_once(read):
    size = MODELS["org/small"]["model.safetensors"].length
    assert read[0]["org/small"] == ["ok", {"a": [1, 2]}, {}, size]


def test_of_a_file_of_13_gigabytes_one_chunk_is_fetched(read):
    found, hub = read
    assert found["org/huge"] == ["ok", {"a": [10**6, 3250]}, {}, CHUNK]
    assert hub.served["org/huge/model.safetensors"] == CHUNK


def test_a_header_above_25_megabytes_is_read(read):
    assert read[0]["org/long"] == ["ok", {"a": [1, 2]}, {}, 30_000_000]


def test_shards_are_one_model(read):
    kind, tensors, _, fetched = read[0]["org/sharded"]
    assert (kind, tensors) == ("ok", {"a": [10**5, 10], "b": [1, 1], "c": [10**5, 20]})
    listed = MODELS["org/sharded"]["model.safetensors.index.json"]
    assert fetched == 2 * CHUNK + len(listed)


def test_a_repository_without_safetensors_has_none(read):
    assert read[0]["org/no-weights"] == ["ok", None, {}, 0]


def test_a_large_vocabulary_is_read_and_no_byte_of_it_twice(read):
    found, hub = read
    kind, tensors, keys, fetched = found["org/vocabulary"]
    assert (kind, tensors) == ("ok", {"output.weight": [10**6, 32]})
    count = len(VOCABULARY)
    assert keys == {
        "general.architecture": "llama", "tokenizer.ggml.tokens": count,
        "tokenizer.ggml.scores": count, "last": VOCABULARY[-1].decode(),
    }  # fmt: skip
    gets = [r.range for r in hub.requests if "org/vocabulary/" in r.path and r.range]
    bounds = [tuple(map(int, asked.removeprefix("bytes=").split("-"))) for asked in gets]
    assert [begin for begin, _ in bounds] == [0, *(end + 1 for _, end in bounds[:-1])]
    assert len(GGUF_BYTES) <= fetched == bounds[-1][1] + 1 < 2 * len(GGUF_BYTES)


def test_parts_are_one_model(read):
    files = MODELS["org/parts"].values()
    expected = ["ok", {"a": [8], "b": [8]}, {}, sum(map(len, files))]
    assert read[0]["org/parts"] == expected


# name: the error's class, what its text says
FAILURES = {
    "org/shard-missing": ("NotFoundError", f"{SECOND}: missing, though"),
    "org/shard-cut": ("FormatError", f"{SECOND}: tensor 'c' ends 4 bytes past the end"),
    "org/listed-wrongly": ("FormatError", f"tensor 'd' is not in {FIRST}"),
    "org/vocabulary-cut": ("FormatError", "m.gguf: 1000000 bytes are missing at the end"),
    "org/endless": ("FormatError", "m.gguf: the header takes more than"),
    "org/part-missing": ("NotFoundError", "m-00002-of-00002.gguf: missing: it is part 2 of 2"),
    "org/part-of-another": ("FormatError", "split.no is 0 and split.count 2, not 1 and 2"),
}


@pytest.mark.parametrize("name", FAILURES)
def test_each_failure_says_what_it_is(read, name):
    expected, said = FAILURES[name]
    kind, text, hint = read[0][name]
    assert (kind, said in text, bool(hint)) == (expected, True, True), text
    assert text.startswith(f"{name}/")


def test_a_header_that_cannot_be_is_refused_before_it_is_fetched(read):
    assert read[1].served["org/endless/m.gguf"] == 2**20
