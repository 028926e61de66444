"""A training whose disk fails at any of its file operations: nothing is lost, and it goes on."""

import errno
import json
import os
import resource
import shutil

import numpy as np
import pytest

from entrenar_common.errors import CheckpointError, RefusedError, StorageError
from entrenar_core.autograd import ops
from entrenar_core.data.array_batches import ArrayBatches
from entrenar_core.io.faults import inject
from entrenar_core.nn import Linear
from entrenar_core.optim import AdamW
from entrenar_core.train.checkpoint import CheckpointStore
from entrenar_core.train.config import TrainingConfig
from entrenar_core.train.metrics import READINGS
from entrenar_core.train.trainer import Trainer

CODES = (errno.ENOSPC, errno.EIO, errno.EROFS, errno.EDQUOT, errno.EMFILE)
X = np.linspace(-1, 1, 24, dtype=np.float32).reshape(8, 3)
STEPS = 2


def trainer(folder, **settings):
    model = Linear(3, 1, bias=True, dtype="float32")
    model.weight.data[...], model.bias.data[...] = 0.5, 0.0
    config = {"max_steps": STEPS, "learning_rate": 0.1, "schedule": "constant", **settings}
    return Trainer(
        model, AdamW(model.named_parameters()), ops.mse,
        config=TrainingConfig.model_validate(config), folder=folder, checkpoint_every=1,
        keep_checkpoints=1,
    )  # fmt: skip


def fit(folder, *, rows=8, resume=True, **settings):
    """Train, and give what must not depend on how often it was begun."""
    found = trainer(folder, **settings)
    found.fit(ArrayBatches(X[:rows], X[:rows, :1], batch_size=2), resume=resume)
    arrays = {n: p.data for n, p in found.model.named_parameters().items()}
    arrays |= found.optimizer.state()
    return {name: array.tobytes() for name, array in arrays.items()} | {"log": log(folder)}


def log(folder):
    path = folder / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return [{k: v for k, v in json.loads(each).items() if k not in READINGS} for each in lines]


def latest_step(folder):
    """Of the newest checkpoint, which nothing is passed over for; 0 where there is none."""
    store = CheckpointStore(folder / "checkpoints", run_id="trainer")
    latest = store.latest()
    assert store.warnings == []
    return latest.step if latest else 0


@pytest.mark.tier2
@pytest.mark.parametrize("forever", [False, True], ids=["once", "for ever"])
def test_a_fault_at_any_operation_loses_nothing(ram_path, forever):
    """What fails for ever from an operation on leaves the disk as SIGKILL there does: nothing that
    comes after it is done."""
    with inject() as faults:
        straight = fit(ram_path / "straight")
    assert [line["step"] for line in straight["log"]] == [1, 2]
    ended, reached = 0, set()
    for at in range(1, len(faults.calls) + 1):
        folder = ram_path / str(at)
        try:
            with inject(at, errno=CODES[at % len(CODES)], forever=forever):
                fit(folder)
        except StorageError as error:
            assert error.hint
            ended += 1
            logged = [line["step"] for line in log(folder)]
            assert logged == list(range(1, len(logged) + 1))
            reached.add(latest_step(folder))
            assert latest_step(folder) <= len(logged)
        assert fit(folder) == straight
        assert not [p for p in folder.rglob("*") if ".tmp-" in p.name or ".trash-" in p.name]
        shutil.rmtree(folder)
    assert reached == {0, 1, 2}
    assert ended > len(faults.calls) // 2


def free_descriptors() -> list[int]:
    """The numbers of files that are opened now, in order: first those between others."""
    opened = [os.dup(0) for _ in range(6)]
    for number in opened:
        os.close(number)
    return opened


@pytest.mark.tier2
def test_without_free_descriptors_a_save_is_refused_whole(ram_path):
    """The system's own EMFILE: with so few left, each way to fail is met in turn."""
    store = CheckpointStore(ram_path, run_id="run")
    tensors = {"model": {"w": np.ones(3, np.float32)}}
    store.save(1, tensors=tensors, state={})
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    outcomes = []
    numbers = free_descriptors()
    for free in range(6):
        resource.setrlimit(resource.RLIMIT_NOFILE, (numbers[free], hard))
        try:
            store.save(2 + free, tensors=tensors, state={})
            outcomes.append("saved")
        except StorageError as error:
            assert "ulimit -n" in error.hint
            outcomes.append("refused")
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        latest = store.latest()
        assert latest is not None
        assert (latest.step == 2 + free) == (outcomes[-1] == "saved")
    assert outcomes[0] == "refused"
    assert outcomes[-1] == "saved"


# --- a folder that a training is in already ----------------------------------------------------


def test_a_training_is_not_begun_over_the_checkpoints_of_another(tmp_path):
    before = fit(tmp_path)
    with pytest.raises(RefusedError, match="already holds a training") as caught:
        fit(tmp_path, resume=False)
    assert "resume=True" in caught.value.hint
    assert fit(tmp_path) == before


@pytest.mark.parametrize(
    ("changed", "difference"),
    [
        ({"learning_rate": 0.2}, "learning_rate: was 0.1, is 0.2"),
        ({"max_steps": 9}, "max_steps: was 2, is 9"),
        ({"average_decay": 0.9}, "average_decay: was None, is 0.9"),
        ({"rows": 6}, "micro-batches of an epoch: was 4, is 3"),
    ],
)
def test_a_changed_setting_is_refused_with_the_difference(tmp_path, changed, difference):
    fit(tmp_path)
    before = (tmp_path / "metrics.jsonl").read_bytes()
    with pytest.raises(CheckpointError, match="differs from this one") as caught:
        fit(tmp_path, **changed)
    assert caught.value.details == (difference,)
    assert (tmp_path / "metrics.jsonl").read_bytes() == before


def test_a_folder_in_use_is_refused(tmp_path):
    with (
        CheckpointStore(tmp_path / "checkpoints", run_id="x").lock(),
        pytest.raises(CheckpointError, match=f"pid {os.getpid()}"),
    ):
        fit(tmp_path)
