"""A world small enough for a whole distillation to take a second: text, tokenizer, models."""

import functools
import itertools
import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from entrenar_core import models
from entrenar_core.data.tokenizer import Tokenizer, train_bpe
from entrenar_core.io.os_calls import os_calls
from entrenar_core.kernels.cpu.compile import cache_folder
from entrenar_core.train.metrics import READINGS, MetricsLog
from entrenar_distill import pipeline
from entrenar_distill.config import resolve

WORDS = "the,a,red,blue,small,old,fox,dog,tree,house,runs,sleeps,sees,likes,under,near"
POISON = "\x07"
"""A byte that no ordinary document has; its token can be made to turn a model's output into NaN."""

SHAPE = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 32,
}


def write_documents(folder: Path, count: int = 24, words: int = 60) -> Path:
    """Text files of nonsense sentences, the same on every machine."""
    folder.mkdir()
    words_of = WORDS.split(",")
    rng = np.random.default_rng(7)
    for i in range(count):
        text = " ".join(words_of[j] for j in rng.integers(len(words_of), size=words))
        (folder / f"{i:03d}.txt").write_text(text.replace(" the ", ".\nthe ") + "\n")
    return folder


@pytest.fixture(scope="session")
def world(tmp_path_factory) -> Path:
    """A folder with `text/`, `teacher/` (untied) and `other/` (another tokenizer); read only."""
    root = tmp_path_factory.mktemp("world")
    write_documents(root / "text")
    texts = [path.read_text() for path in sorted((root / "text").iterdir())]
    for name, size in (("teacher", 320), ("other", 300)):
        tokenizer = train_bpe(texts, size)
        shape = {"vocab_size": tokenizer.vocab_size, "eos_token_id": tokenizer.eos_id}
        models.save(models.from_config({**SHAPE, **shape}, seed=1), root / name)
        tokenizer.save(root / name)
    return root


@pytest.fixture(scope="session", autouse=True)
def own_token_cache(tmp_path_factory):
    """Tokens are cached below a folder of the tests, compiled kernels where they always are."""
    patch = pytest.MonkeyPatch()
    patch.setenv("NUMBA_CACHE_DIR", str(cache_folder()))
    patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    yield
    patch.undo()


@pytest.fixture(autouse=True)
def without_waiting_for_the_disk(monkeypatch) -> None:
    """No test cuts the power, and a real fsync would take most of the time."""
    monkeypatch.setattr(os_calls, "fsync", lambda fd: None)


@pytest.fixture
def teacher(world, tmp_path) -> Path:
    """A copy of the teacher, to be damaged."""
    return Path(shutil.copytree(world / "teacher", tmp_path / "teacher"))


@pytest.fixture(scope="session")
def make_config(world) -> Callable[..., Path]:
    """Writes `distill.yaml` to a folder, for the output folder `out` beside it; arguments such as
    training={...} change its sections."""

    def write(folder: Path, **sections: Any) -> Path:
        data: dict[str, Any] = {
            "teacher": {"model_id": str(world / "teacher")},
            "student": {"config": {**SHAPE, "hidden_size": 16, "num_hidden_layers": 1}},
            "training": {"max_steps": 4, "batch_size": 2, "learning_rate": 1e-2, "warmup_steps": 1},
            "dataset": {"name": str(world / "text"), "max_length": 32, "held_out": 0.2},
            "output": {"dir": str(folder / "out"), "checkpoint_every": 2},
        }
        for name, value in sections.items():
            merged = isinstance(value, dict) and name != "student"
            data[name] = {**data.get(name, {}), **value} if merged else value
        path = folder / "distill.yaml"
        path.write_text(yaml.safe_dump(data, sort_keys=False))
        return path

    return write


@pytest.fixture
def write_config(make_config, tmp_path) -> Callable[..., Path]:
    """`make_config` in the folder of this test."""
    return functools.partial(make_config, tmp_path)


@pytest.fixture
def poisoned(world, tmp_path) -> Callable[..., dict[str, Any]]:
    """Puts a token into documents that makes the teacher's output NaN, `times` in each of those
    named; gives the sections of the configuration that use it."""

    def poison(*names: str, times: int = 1) -> dict[str, Any]:
        folder = tmp_path / "poisoned"
        shutil.copytree(world / "teacher", folder)
        model, tokenizer = models.load(folder), Tokenizer.load(folder)
        (token,) = tokenizer.encode(POISON)
        weights = model.named_parameters()["model.embed_tokens.weight"].data
        weights[token] = np.nan
        models.save(model, folder)
        shutil.copytree(world / "text", tmp_path / "text")
        for name in names:
            path = tmp_path / "text" / name
            words = path.read_text().split(" ")
            for i in range(times):
                words[i * len(words) // times] = POISON
            path.write_text(" ".join(words))
        return {
            "teacher": {"model_id": str(folder)},
            "dataset": {"name": str(tmp_path / "text")},
        }

    return poison


@pytest.fixture(scope="session")
def train() -> Callable[..., Any]:
    """`train(config_file, resume=…, **overrides of output)`: a run in this process."""

    def run(path: Path, *, resume: str = "never", output: Path | None = None) -> Any:
        config = resolve(path, output=None if output is None else str(output))
        return pipeline.run(config, resume=resume)

    return run


@pytest.fixture
def stopped_at(monkeypatch) -> Callable[..., AbstractContextManager[None]]:
    """`with stopped_at(step, signal=SIGTERM):` sends this process a signal in that step."""

    @contextmanager
    def body(step: int, number: int = signal.SIGTERM) -> Iterator[None]:
        append, count = MetricsLog.append, itertools.count(1)

        def counted(log: MetricsLog, record: Any) -> None:
            append(log, record)
            if next(count) == step:
                os.kill(os.getpid(), number)

        with monkeypatch.context() as patch:
            patch.setattr(MetricsLog, "append", counted)
            yield

    return body


@pytest.fixture(scope="session")
def outcome() -> Callable[[Path], dict[str, Any]]:
    """What a run ended with and must not depend on how often it was interrupted."""
    return _outcome


def _outcome(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = {"model": (folder / "model.safetensors").read_bytes()}
    for phase in sorted((folder / "checkpoints").iterdir()):
        newest = max(path for path in phase.iterdir() if path.name.startswith("step-"))
        for name in ("model", "optimizer"):
            found[f"{phase.name} {name}"] = (newest / f"{name}.safetensors").read_bytes()
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    found["metrics"] = [
        {k: v for k, v in json.loads(line).items() if k not in READINGS} for line in lines
    ]
    report = json.loads((folder / "report.json").read_text())
    found["report"] = {
        k: report[k] for k in ("scores", "difference", "samples", "steps", "skipped_steps", "curve")
    }
    return found
