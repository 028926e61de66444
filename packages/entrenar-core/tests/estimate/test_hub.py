"""The shape of a model on the hub: a loopback hub that counts what it is asked for."""

import json

import pytest

from entrenar_core import models
from entrenar_core.io.hub_headers import SAFETENSORS_CHUNK
from hub_server import repository, run_client, serving

pytestmark = pytest.mark.tier2

CONFIG = {
    "model_type": "llama", "hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 2,
    "num_attention_heads": 4, "vocab_size": 1000, "max_position_embeddings": 64,
}  # fmt: skip


CHILD = """
import json, sys
from entrenar_common.errors import EntrenarError
from entrenar_core.estimate import find_shape
found = []
for spec in sys.argv[1:]:
    try:
        shape = find_shape(spec)
        found.append([shape.parameters, len(shape.linears), shape.origin])
    except EntrenarError as error:
        found.append([type(error).__name__, str(error), error.hint])
print(json.dumps(found))
"""
SPECS = ("org/whole", "org/sharded", "org/config-only", "org/other-shapes", "org/missing")


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    """What the process found for each of SPECS, the hub, and what was printed."""
    files = {}
    for name, shard in (("whole", 10**9), ("sharded", 10**6)):
        folder = tmp_path_factory.mktemp(name)
        models.save(models.from_config(CONFIG, seed=0), folder, max_shard_bytes=shard)
        files[f"org/{name}"] = {p.name: p.read_bytes() for p in folder.iterdir()}
    config = json.dumps({**CONFIG, "intermediate_size": 513}).encode()
    files["org/config-only"] = {"config.json": config}
    files["org/other-shapes"] = {**files["org/whole"], "config.json": config}
    with serving({name: repository(kept) for name, kept in files.items()}) as found:
        settings = {
            "HF_ENDPOINT": found.endpoint, "HF_HOME": str(tmp_path_factory.mktemp("hf")),
        }  # fmt: skip
        shapes, said = run_client(CHILD, *SPECS, settings=settings)
    return dict(zip(SPECS, shapes, strict=True)), found, said


def test_config_and_headers_say_the_shape(hub):
    found, _, said = hub
    count = models.parameter_count(CONFIG)
    for name in ("org/whole", "org/sharded"):
        assert found[name] == [count, 14, "hub: config and headers"]
    assert said == ""  # a library prints nothing


def test_no_weights_are_fetched(hub):
    _, found, _ = hub
    kept = {
        f"{name}/{file}": stored
        for name, model in found.repositories.items()
        for file, stored in model.files.items()
        if file.endswith(".safetensors")
    }
    assert len(kept) > 4
    assert kept["org/whole/model.safetensors"].length > 10**6
    for place, stored in kept.items():
        header = 8 + int.from_bytes(stored.head[:8], "little")
        assert header < found.served[place] <= max(header, SAFETENSORS_CHUNK)


def test_a_model_without_safetensors_is_planned_by_its_config(hub):
    found, _, _ = hub
    assert found["org/config-only"][2] == "hub: config and headers"


def test_headers_that_contradict_the_config_are_refused(hub):
    kind, text, _ = hub[0]["org/other-shapes"]
    assert kind == "ConfigError"
    assert "6 tensors do not have the shapes that config.json says" in text


def test_a_model_that_is_not_there_is_refused(hub):
    kind, text, _ = hub[0]["org/missing"]
    assert (kind, "org/missing" in text) == ("NotFoundError", True)
