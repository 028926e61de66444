"""The shape of a model on the hub: a loopback hub that counts what it is asked for."""

import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from entrenar_core import models

pytestmark = pytest.mark.tier2

COMMIT = "b" * 40
CONFIG = {
    "model_type": "llama", "hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 2,
    "num_attention_heads": 4, "vocab_size": 1000, "max_position_embeddings": 64,
}  # fmt: skip


class Hub(BaseHTTPRequestHandler):
    """Files of models with support for ranges; `served` counts the bytes of each path."""

    files: dict[str, bytes]
    served: dict[str, int]

    def log_message(self, *args):
        pass

    def do_GET(self):
        path = self.path.split("?")[0]
        name, _, file = path.strip("/").partition("/resolve/")
        body = self.files.get(f"{name}/{file.partition('/')[2]}")
        if body is None:
            self.send_response(404)
            self.send_header("X-Error-Code", "EntryNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        part, asked = body, self.headers.get("Range")
        if asked:
            first, last = asked.removeprefix("bytes=").split("-")
            part = body[int(first) : int(last) + 1]
        self.send_response(206 if asked else 200)
        self.send_header("ETag", f'"{len(body)}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(part)
            self.served[path] = self.served.get(path, 0) + len(part)

    do_HEAD = do_GET


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
    """What the process found for each of SPECS, the bytes served, and those of the weights."""
    files = {}
    for name, shard in (("whole", 10**9), ("sharded", 10**6)):
        folder = tmp_path_factory.mktemp(name)
        models.save(models.from_config(CONFIG, seed=0), folder, max_shard_bytes=shard)
        files |= {f"org/{name}/{p.name}": p.read_bytes() for p in folder.iterdir()}
    config = json.dumps({**CONFIG, "intermediate_size": 513}).encode()
    files["org/config-only/config.json"] = config
    files["org/other-shapes/config.json"] = config
    files["org/other-shapes/model.safetensors"] = files["org/whole/model.safetensors"]
    Hub.files, Hub.served = files, {}
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING"))}
    done = subprocess.run(
        [sys.executable, "-c", CHILD, *SPECS],
        capture_output=True, text=True, check=False,
        env={
            **clean, "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
            "HF_HOME": str(tmp_path_factory.mktemp("hf")), "HF_HUB_DISABLE_TELEMETRY": "1",
        },
    )  # fmt: skip
    server.shutdown()
    thread.join()
    server.server_close()
    assert done.returncode == 0, done.stderr
    weights = sum(len(data) for name, data in files.items() if name.endswith("whole.safetensors"))
    return dict(zip(SPECS, json.loads(done.stdout), strict=True)), Hub.served, weights, done.stderr


def test_config_and_headers_say_the_shape(hub):
    found, _, _, said = hub
    count = models.parameter_count(CONFIG)
    for name in ("org/whole", "org/sharded"):
        assert found[name] == [count, 14, "hub: config and headers"]
    assert said == ""  # a library prints nothing


def test_no_weights_are_fetched(hub):
    _, served, _, _ = hub
    fetched = {path: n for path, n in served.items() if path.endswith(".safetensors")}
    assert len(fetched) > 2
    assert all(n <= 100_001 for n in fetched.values())  # huggingface_hub's first request
    assert (
        sum(len(d) for n, d in Hub.files.items() if n.endswith("whole/model.safetensors")) > 10**6
    )


def test_a_model_without_safetensors_is_planned_by_its_config(hub):
    found, _, _, _ = hub
    assert found["org/config-only"][2] == "hub: config and headers"


def test_headers_that_contradict_the_config_are_refused(hub):
    kind, text, _ = hub[0]["org/other-shapes"]
    assert kind == "ConfigError"
    assert "6 tensors do not have the shapes that config.json says" in text


def test_a_model_that_is_not_there_is_refused(hub):
    kind, text, _ = hub[0]["org/missing"]
    assert (kind, "org/missing" in text) == ("NotFoundError", True)
