"""Studies of a few runs whose clock goes only when told."""

from pathlib import Path

import numpy as np
import pytest
import yaml

from entrenar_bench.study import Arm, Plan, Study
from entrenar_common.testing import Clock
from entrenar_core import models
from entrenar_core.data.tokenizer import train_bpe
from entrenar_core.io.os_calls import os_calls
from entrenar_core.kernels.cpu.compile import cache_folder

SHAPE = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "max_position_embeddings": 32,
}


@pytest.fixture(autouse=True)
def without_waiting_for_the_disk(monkeypatch) -> None:
    """No test cuts the power, and a real fsync would take most of the time."""
    monkeypatch.setattr(os_calls, "fsync", lambda fd: None)


@pytest.fixture
def clock() -> Clock:
    return Clock(1000.0)


@pytest.fixture
def plan() -> Plan:
    """Two arms, x = 1 and x = 2, with three seeds."""
    return Plan(arms=(Arm("one", {"x": 1}), Arm("two", {"x": 2})), seeds=(0, 1, 2))


@pytest.fixture
def study(tmp_path, plan, clock):
    with Study.create(tmp_path / "a.study", plan, clock=clock, lease_seconds=60) as made:
        yield made


@pytest.fixture
def config(tmp_path) -> Path:
    """A distillation of a few steps, in a file."""
    (tmp_path / "text").mkdir()
    words, rng = ["the", "red", "blue", "fox", "dog", "runs", "sees"], np.random.default_rng(1)
    texts = [" ".join(words[i] for i in rng.integers(len(words), size=60)) for _ in range(12)]
    for i, text in enumerate(texts):
        (tmp_path / f"text/{i}.txt").write_text(text)
    tokenizer = train_bpe(texts, 280)
    ids = {"vocab_size": tokenizer.vocab_size, "eos_token_id": tokenizer.eos_id}
    models.save(models.from_config({**SHAPE, **ids}, seed=1), tmp_path / "teacher")
    tokenizer.save(tmp_path / "teacher")
    data = {
        "teacher": {"model_id": str(tmp_path / "teacher")},
        "student": {"config": {**SHAPE, "hidden_size": 8}},
        "training": {"max_steps": 3, "batch_size": 2, "learning_rate": 1e-2, "warmup_steps": 1},
        "dataset": {"name": str(tmp_path / "text"), "max_length": 16, "held_out": 0.3},
    }
    (tmp_path / "distill.yaml").write_text(yaml.safe_dump(data))
    return tmp_path / "distill.yaml"


@pytest.fixture
def own_cache(tmp_path, monkeypatch) -> None:
    """Token ids are cached in the test's folder, compiled kernels where they are."""
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(cache_folder()))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
