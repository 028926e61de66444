"""A distillation that takes milliseconds a step, and its profile."""

import numpy as np
import pytest
import yaml

from entrenar_bench.profile.measure import profile
from entrenar_bench.profile.record import Ceilings
from entrenar_core import models
from entrenar_core.data.tokenizer import train_bpe
from entrenar_distill.config import resolve

SHAPE = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "max_position_embeddings": 32,
}  # fmt: skip


@pytest.fixture(scope="session")
def config(tmp_path_factory):
    """A distillation into one layer of half the width."""
    root = tmp_path_factory.mktemp("world")
    patch = pytest.MonkeyPatch()
    patch.setenv("XDG_CACHE_HOME", str(root / "cache"))
    words = "the a red blue fox dog runs sees likes near".split()  # noqa: SIM905
    texts = [" ".join(np.random.default_rng(i).choice(words, 200)) for i in range(8)]
    (root / "text").mkdir()
    for i, text in enumerate(texts):
        (root / "text" / f"{i}.txt").write_text(text)
    tokenizer = train_bpe(texts, 300)
    ids = {"vocab_size": tokenizer.vocab_size, "eos_token_id": tokenizer.eos_id}
    models.save(models.from_config({**SHAPE, **ids}, seed=1), root / "teacher")
    tokenizer.save(root / "teacher")
    sections = {
        "teacher": {"model_id": str(root / "teacher")},
        "student": {"config": {**SHAPE, "hidden_size": 16, "num_hidden_layers": 1}},
        "training": {"max_steps": 20, "batch_size": 2, "learning_rate": 1e-2, "warmup_steps": 1},
        "dataset": {"name": str(root / "text"), "max_length": 32, "held_out": 0.2},
        "output": {"dir": str(root / "out")},
    }
    path = root / "distill.yaml"
    path.write_text(yaml.safe_dump(sections))
    yield path
    patch.undo()


@pytest.fixture(scope="session")
def profiled(config):
    return profile(resolve(config), steps=3, ceilings=Ceilings(100.0, 10.0))
