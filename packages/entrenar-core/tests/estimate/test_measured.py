"""The estimate for main memory beside a training that really runs, in a process of its own."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from entrenar_core import models
from entrenar_core.estimate import Setup
from entrenar_core.estimate.own_memory import own_memory
from entrenar_core.estimate.shape import model_shape

WORKER = Path(__file__).parents[4] / "benchmarks/memory_worker.py"
CONFIG = {
    "model_type": "llama", "vocab_size": 16000, "hidden_size": 512, "intermediate_size": 1408,
    "num_hidden_layers": 4, "num_attention_heads": 8, "num_key_value_heads": 4,
    "max_position_embeddings": 512,
}  # fmt: skip


@pytest.mark.tier3
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("method", ["full", "lora"])
def test_the_peak_of_a_training_is_within_a_tenth(method, tmp_path):
    models.save(models.from_config(CONFIG, seed=0), tmp_path)
    shape = model_shape(CONFIG, name="", origin="")
    rank = 16 if method == "lora" else 0
    asked = {
        "folder": str(tmp_path), "method": method, "base": "float32", "targets": ["all-linear"],
        "rank": rank, "batch": 4, "accumulation": 1, "seq_len": 512, "checkpointing": False,
        "optimizer": "adamw",
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, WORKER],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        check=True,
    )
    peak = json.loads(done.stdout)["peak"]
    targets = tuple(shape.linears) if rank else ()
    setup = Setup(method, "float32", targets, rank, batch=4, seq_len=512)
    assert peak > 500e6
    assert own_memory(shape, setup).total == pytest.approx(peak, rel=0.10)
