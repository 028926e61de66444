"""Checkpoints: verified before use, rotated only after a good save, never silently absent."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from entrenar_common.errors import CheckpointError, ConfigError, UnsupportedError
from entrenar_core.train.checkpoint import CheckpointStore


def save(store: CheckpointStore, step: int, metric: float | None = None) -> Path:
    weights = {"w": np.full((2, 3), step, np.float32), "b": np.arange(step, step + 5)}
    return store.save(
        step,
        tensors={"model": weights, "optimizer": {"w.m": weights["w"] / 2}},
        state={"step": step, "position": 7},
        metric=metric,
    )


def steps(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("step-*"))


def corrupt(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


@pytest.fixture
def store(tmp_path):
    return CheckpointStore(tmp_path, run_id="run")


def test_what_was_saved_comes_back(store):
    path = save(store, 100)
    found = store.latest()
    assert found is not None
    assert (found.path, found.step) == (path, 100)
    assert found.state == {"step": 100, "position": 7}
    model = found.tensors("model")
    np.testing.assert_array_equal(model["w"], np.full((2, 3), 100, np.float32))
    np.testing.assert_array_equal(model["b"], np.arange(100, 105))
    assert found.tensors("optimizer")["w.m"][0, 0] == 50
    assert store.warnings == []


def test_folders_are_named_by_step(store, tmp_path):
    assert save(store, 100) == tmp_path / "step-000000100"
    assert (tmp_path / "LATEST").read_text() == "step-000000100\n"


def test_an_absent_or_empty_folder_has_no_latest(tmp_path, store):
    assert store.latest() is None
    assert CheckpointStore(tmp_path / "none", run_id="run").latest() is None


def test_the_manifest_records_run_step_config_and_files(tmp_path):
    store = CheckpointStore(tmp_path, run_id="run", config_hash="abc")
    manifest = json.loads((save(store, 3, 0.5) / "manifest.json").read_text())
    assert manifest["schema"] == "entrenar.checkpoint/1"
    assert (manifest["run_id"], manifest["step"], manifest["config_hash"]) == ("run", 3, "abc")
    assert manifest["metric"] == 0.5
    names = {file["name"] for file in manifest["files"]}
    assert names == {"model.safetensors", "optimizer.safetensors", "state.json"}


def test_steps_are_ordered_as_numbers(tmp_path):
    store = CheckpointStore(tmp_path, run_id="run", keep_last=4)
    for step in (999, 1000, 9999, 10000):
        save(store, step).rename(tmp_path / f"step-{step}")  # without the zeros
    latest = store.latest()
    assert latest is not None
    assert latest.step == 10000


def test_the_last_ones_and_the_best_are_kept(store, tmp_path):
    for step, metric in ((1, 3.0), (2, 1.0), (3, 2.0), (4, 2.0), (5, 2.0)):
        save(store, step, metric)
    assert steps(tmp_path) == ["step-000000002", "step-000000004", "step-000000005"]


def test_of_two_equal_ones_the_earlier_is_the_best_and_kept(store, tmp_path):
    for step, metric in ((1, 1.0), (2, 1.0), (3, 2.0), (4, 2.0)):
        save(store, step, metric)
    assert steps(tmp_path) == ["step-000000001", "step-000000003", "step-000000004"]
    best = store.best()
    assert best is not None
    assert best.step == 1


def test_nan_is_the_worst_metric(store, tmp_path):
    nan = float("nan")
    for step, metric in ((1, nan), (2, 5.0), (3, nan), (4, nan), (5, None), (6, float("inf"))):
        save(store, step, metric)
    assert steps(tmp_path) == ["step-000000002", "step-000000005", "step-000000006"]


def test_best_and_last_may_be_the_same(tmp_path):
    store = CheckpointStore(tmp_path, run_id="run", keep_last=1)
    for step, metric in ((1, 3.0), (2, 1.0)):
        save(store, step, metric)
    assert steps(tmp_path) == ["step-000000002"]


def test_other_runs_are_neither_read_nor_removed(store, tmp_path):
    other = CheckpointStore(tmp_path, run_id="other", keep_last=1)
    save(other, 100_000)
    for step in (1, 2, 3):
        save(store, step)
    assert steps(tmp_path) == ["step-000000002", "step-000000003", "step-000100000"]
    latest = store.latest()
    assert latest is not None
    assert latest.step == 3


def test_only_other_runs_means_no_latest(store, tmp_path):
    save(CheckpointStore(tmp_path, run_id="other"), 5)
    assert store.latest() is None


def test_another_runs_step_is_not_overwritten(store, tmp_path):
    save(CheckpointStore(tmp_path, run_id="other"), 5)
    assert save(store, 5).name == "step-000000005.2"
    latest = store.latest()
    assert latest is not None
    assert latest.path.name == "step-000000005.2"


def test_a_step_saved_again_replaces_the_first(store, tmp_path):
    for _ in range(3):
        save(store, 5)
    assert steps(tmp_path) == ["step-000000005.3"]
    latest = store.latest()
    assert latest is not None
    assert latest.step == 5


@pytest.mark.parametrize("name", ["model.safetensors", "state.json", "manifest.json"])
@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "missing"])
def test_a_damaged_newest_falls_back_with_a_warning(store, name, damage):
    save(store, 1)
    path = save(store, 2) / name
    data = path.read_bytes()
    if damage == "flip":
        path.write_bytes(data[:-3] + bytes([data[-3] ^ 1]) + data[-2:])
    elif damage == "missing":
        path.unlink()
    else:
        path.write_bytes(data[:-2] if damage == "cut" else b"")
    latest = store.latest()
    assert latest is not None
    assert latest.step == 1
    (warning,) = store.warnings
    assert "step-000000002 is passed over" in warning
    assert name in warning


@pytest.mark.parametrize("field", ["step", "metric", "run_id"])
def test_an_altered_manifest_is_refused(store, field):
    path = save(store, 1, 0.5) / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest[field] = "7" if field == "run_id" else 7
    path.write_text(json.dumps(manifest))
    with pytest.raises(CheckpointError, match="checksum"):
        store.open(path.parent)


def test_all_damaged_is_an_error_and_not_a_fresh_start(store):
    for step in (1, 2):
        corrupt(save(store, step) / "model.safetensors")
    with pytest.raises(CheckpointError) as caught:
        store.latest()
    assert len(caught.value.details) == 2


def test_a_folder_without_a_manifest_is_no_checkpoint_and_no_fresh_start(store, tmp_path):
    (tmp_path / "step-000000009").mkdir()
    with pytest.raises(CheckpointError):
        store.latest()
    save(store, 1)
    latest = store.latest()
    assert latest is not None
    assert latest.step == 1


def test_damaged_ones_do_not_count_as_kept(tmp_path):
    store = CheckpointStore(tmp_path, run_id="run", keep_last=2)
    save(store, 1)
    (save(store, 2) / "state.json").unlink()
    save(store, 3)
    assert steps(tmp_path) == ["step-000000001", "step-000000003"]


def test_an_explicit_path_has_no_fallback(store, tmp_path):
    save(store, 1)
    bad = save(store, 2)
    corrupt(bad / "model.safetensors")
    for path in (bad, tmp_path / "step-000000077"):
        with pytest.raises(CheckpointError, match=path.name):
            store.open(path)


def test_an_explicit_path_may_be_a_copy_anywhere(store, tmp_path):
    copy = tmp_path / "elsewhere"
    save(store, 4).rename(copy)
    assert store.open(copy).step == 4


def test_a_newer_schema_is_not_passed_over(store):
    path = save(store, 1) / "manifest.json"
    path.write_text(path.read_text().replace("checkpoint/1", "checkpoint/2"))
    with pytest.raises(UnsupportedError, match="checkpoint/2"):
        store.latest()


def test_arrays_outlive_their_rotation(tmp_path):
    store = CheckpointStore(tmp_path, run_id="run", keep_last=1)
    weights = store.open(save(store, 1)).tensors("model")
    save(store, 2)
    assert steps(tmp_path) == ["step-000000002"]
    assert weights["w"].sum() == 6


def test_an_unknown_stem_is_named(store):
    with pytest.raises(CheckpointError, match=r"no scaler\.safetensors"):
        store.open(save(store, 1)).tensors("scaler")


def test_a_state_with_nan_is_refused_before_anything_is_written(store, tmp_path):
    with pytest.raises(CheckpointError, match="state"):
        store.save(1, tensors={}, state={"loss": float("nan")})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("stem", ["../x", "a/b", "", ".hidden", "a.b"])
def test_a_stem_is_a_plain_name(store, stem):
    with pytest.raises(ConfigError):
        store.save(1, tensors={stem: {}}, state={})


def test_a_negative_step_or_no_retention_is_refused(store, tmp_path):
    with pytest.raises(ConfigError):
        save(store, -1)
    with pytest.raises(ConfigError):
        CheckpointStore(tmp_path, run_id="run", keep_last=0)


def test_later_steps_can_be_discarded(tmp_path):
    store = CheckpointStore(tmp_path, run_id="run", keep_last=9)
    save(CheckpointStore(tmp_path, run_id="other"), 9)
    for step in (1, 2, 3):
        save(store, step)
    removed = store.discard_after(1)
    assert [path.name for path in removed] == ["step-000000003", "step-000000002"]
    assert steps(tmp_path) == ["step-000000001", "step-000000009"]


def test_garbage_is_collected_and_nothing_else(store, tmp_path):
    kept = save(store, 1)
    (tmp_path / "step-000000002.tmp-0123456789ab").mkdir()
    (tmp_path / ".trash-0123456789ab" / "sub").mkdir(parents=True)
    (tmp_path / ".LATEST.tmp-77-0123456789ab").touch()
    (tmp_path / "metrics.jsonl").touch()
    assert len(store.collect_garbage()) == 3
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == [".lock", "LATEST", "metrics.jsonl", kept.name]


def test_temporary_folders_are_no_candidates(store, tmp_path):
    save(store, 1).rename(tmp_path / "step-000000001.tmp-0123456789ab")
    assert store.latest() is None


@pytest.mark.tier2
def test_a_folder_in_use_names_the_process(store, tmp_path):
    script = (
        "import sys; from entrenar_core.train.checkpoint import CheckpointStore\n"
        "with CheckpointStore(sys.argv[1], run_id='x').lock():\n"
        "    print('held', flush=True); sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"held\n"
        with pytest.raises(CheckpointError, match=f"pid {child.pid} "):
            save(store, 1)
    assert steps(tmp_path) == []
    save(store, 1)


def test_the_lock_may_be_held_around_saves(store):
    with store.lock():
        save(store, 1)
        save(store, 2)
        assert store.collect_garbage() == []
