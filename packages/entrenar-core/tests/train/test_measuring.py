"""The estimates for main memory beside what really runs, in a process of its own."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from entrenar_common.errors import ConfigError, OutOfMemoryError, StorageError
from entrenar_core import models
from entrenar_core.estimate import Setup
from entrenar_core.estimate.inference import Inference
from entrenar_core.estimate.own_inference import own_inference
from entrenar_core.estimate.own_memory import own_memory
from entrenar_core.estimate.shape import model_shape
from entrenar_core.testing import tiny_config
from entrenar_core.train import measuring
from entrenar_core.train.measuring import (
    available_memory,
    check_room,
    check_space,
    measure_inference,
    measure_training,
    random_model,
)

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")

CONFIG = {
    "model_type": "llama", "vocab_size": 16000, "hidden_size": 512, "intermediate_size": 1408,
    "num_hidden_layers": 4, "num_attention_heads": 8, "num_key_value_heads": 4,
    "max_position_embeddings": 512,
}  # fmt: skip
DEEP = {**CONFIG, "num_hidden_layers": 24}  # weights that outweigh the process


@pytest.fixture(scope="module")
def deep(tmp_path_factory):
    folder = tmp_path_factory.mktemp("deep") / "model"
    models.save(models.from_config(DEEP, seed=0), folder)
    return folder


@pytest.mark.tier3
@pytest.mark.parametrize("method", ["full", "lora"])
def test_the_peak_of_a_training_is_within_a_tenth(method, tmp_path):
    models.save(models.from_config(CONFIG, seed=0), tmp_path)
    shape = model_shape(CONFIG, name="", origin="")
    rank = 16 if method == "lora" else 0
    targets = tuple(shape.linears) if rank else ()
    setup = Setup(method, "float32", targets, rank, batch=4, seq_len=512)
    peak = measure_training(tmp_path, setup)
    assert peak > 500e6
    assert own_memory(shape, setup).total == pytest.approx(peak, rel=0.10)


@pytest.mark.tier3
@pytest.mark.parametrize("base", ["float32", "q8_0"])
def test_the_peak_of_an_inference_is_within_a_tenth(base, deep):
    inference = Inference(base, batch=4, seq_len=512)
    peak = measure_inference(deep, inference)
    said = own_inference(model_shape(DEEP, name="", origin=""), inference)
    of_process = said["fixed overhead"] + said["compiled kernels"]
    assert of_process < peak / 2  # the model decides
    assert said.total == pytest.approx(peak, rel=0.10)


@pytest.mark.tier2
def test_a_model_of_random_weights_is_of_the_config_and_is_removed():
    with random_model(tiny_config("gpt2")) as folder:
        assert models.load(folder).config.model_type == "gpt2"
    assert not folder.parent.exists()


@pytest.mark.tier2
def test_an_error_of_the_measured_process_is_raised_here(tmp_path):
    models.save(models.from_config(tiny_config("gpt2"), seed=0), tmp_path)
    longer = tiny_config("gpt2")["n_positions"] + 5
    with pytest.raises(ConfigError, match="learned"):
        measure_inference(tmp_path, Inference("float32", 1, longer))


@pytest.mark.tier2
def test_a_process_that_is_killed_has_run_out_of_memory(tmp_path, monkeypatch):
    # the kernel ends what is too large with SIGKILL
    killed = f"import os; os.kill(os.getpid(), {int(signal.SIGKILL)})"
    real = subprocess.run
    monkeypatch.setattr(
        measuring.subprocess, "run", lambda _, **k: real([sys.executable, "-c", killed], **k)
    )
    with pytest.raises(OutOfMemoryError, match="want of memory"):
        measure_inference(tmp_path, Inference("float32"))


def test_what_is_larger_than_the_machine_is_refused():
    available = available_memory()
    assert 2**20 < available < 2**50
    check_room(2**20, "a small training")
    with pytest.raises(OutOfMemoryError, match=r"a training is predicted to take 1\.0 PiB"):
        check_room(2**50, "a training")


def test_a_model_that_the_disk_has_no_room_for_is_refused():
    check_space(1)
    with pytest.raises(StorageError, match="free"):
        check_space(2**60)


SLOW = """
import signal, time
from entrenar_core.train import measuring
# a shell has what it runs in the background ignore Ctrl-C, and so its children
signal.signal(signal.SIGINT, signal.default_int_handler)
measuring.make_model = lambda raw, folder: folder.mkdir()
with measuring.random_model({}) as folder:
    print(folder.parent, flush=True)
    while True:
        time.sleep(0.05)  # a signal that comes just before a sleep is seen after it
"""


@pytest.mark.tier2
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_removes_the_temporary_folder(number):
    with subprocess.Popen(
        [sys.executable, "-c", SLOW], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        folder = Path(process.stdout.readline().strip())
        assert folder.exists()
        process.send_signal(number)
        process.wait(20)
    assert not folder.exists()


CHILD = """
import sys, json
from pathlib import Path
from entrenar_core.train import measuring
from entrenar_core.estimate.inference import Inference
measuring.measure_inference(Path(sys.argv[1]), Inference("float32", 1, 8))
"""


@pytest.mark.tier2
def test_an_interrupt_ends_the_measured_process(tmp_path):
    os.mkfifo(tmp_path / "config.json")  # the measured process waits to read it
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, str(tmp_path)], stderr=subprocess.DEVNULL
    ) as process:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        deadline = time.monotonic() + 30
        while not (found := children.read_text().split()) and time.monotonic() < deadline:
            time.sleep(0.05)
        child = Path(f"/proc/{found[0]}")
        process.send_signal(signal.SIGTERM)
        process.wait(20)
    deadline = time.monotonic() + 10
    while child.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not child.exists()
