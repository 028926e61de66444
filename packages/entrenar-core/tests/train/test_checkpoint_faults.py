"""A save that is disturbed at any operation leaves the old or the new checkpoint, both whole."""

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from entrenar_common.errors import StorageError
from entrenar_core.io.faults import inject
from entrenar_core.train.checkpoint import CheckpointStore

KEPT = 2


def save(folder: Path, step: int) -> None:
    CheckpointStore(folder, run_id="run", keep_last=KEPT).save(
        step,
        tensors={"model": {"w": np.full(5, step, np.float32)}, "optimizer": {"m": np.ones(3)}},
        state={"step": step},
        metric=1.0 / (step + 1),
    )


def prepare(folder: Path) -> None:
    """A folder with KEPT checkpoints, copied from one made once: saving syncs and is slow."""
    template = folder.parent / "template"
    if not template.exists():
        for step in range(1, KEPT + 1):
            save(template, step)
    shutil.copytree(template, folder)


def verified_step(folder: Path) -> int:
    """The step of the latest checkpoint, whose every part belongs to that step."""
    store = CheckpointStore(folder, run_id="run")
    latest = store.latest()
    assert latest is not None
    assert store.warnings == []
    assert latest.state == {"step": latest.step}
    assert set(latest.tensors("model")["w"]) == {latest.step}
    return latest.step


def number_of_operations(folder: Path) -> int:
    prepare(folder)
    with inject() as count:
        save(folder, KEPT + 1)
    return len(count.calls)


def disturb_everywhere(root: Path, code: int, *, forever: bool) -> None:
    count = number_of_operations(root / "count")
    assert count > 30
    for at in range(1, count + 1):
        place = root / str(at)
        prepare(place)
        saved = True
        with inject(at, errno=code, forever=forever):
            try:
                save(place, KEPT + 1)
            except StorageError:
                saved = False
        assert verified_step(place) in ([KEPT + 1] if saved else [KEPT, KEPT + 1])
        save(place, KEPT + 2)  # and the run can go on
        CheckpointStore(place, run_id="run").collect_garbage()
        assert verified_step(place) == KEPT + 2
        names = {path.name for path in place.iterdir()}
        assert not [name for name in names if ".tmp-" in name or ".trash-" in name]


@pytest.mark.tier2
def test_a_failing_operation_leaves_old_or_new(ram_path):
    disturb_everywhere(ram_path, errno.ENOSPC, forever=False)


@pytest.mark.tier2
@pytest.mark.parametrize("forever", [False, True])
@pytest.mark.parametrize(
    "code",
    [errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EMFILE, errno.EACCES],
)
def test_any_failing_operation_leaves_old_or_new(ram_path, code, forever):
    disturb_everywhere(ram_path, code, forever=forever)


def test_a_failing_save_never_removes_the_old_one(ram_path):
    store = CheckpointStore(ram_path, run_id="run", keep_last=1)
    store.save(1, tensors={"model": {"w": np.ones(3)}}, state={"step": 1})
    for at in range(2, 25):
        with inject(at, errno=errno.ENOSPC, forever=True), pytest.raises(StorageError):
            store.save(2, tensors={"model": {"w": np.ones(3)}}, state={"step": 2})
        assert store.open(ram_path / "step-000000001").step == 1


def test_a_failing_rotation_is_a_warning(ram_path):
    store = CheckpointStore(ram_path, run_id="run", keep_last=1)
    store.save(1, tensors={}, state={})
    with inject() as count:
        store.save(2, tensors={}, state={})
    with inject(len(count.calls), errno=errno.EIO):  # the last thing is to remove the old one
        path = store.save(3, tensors={}, state={})
    assert store.open(path).step == 3
    (warning,) = store.warnings
    assert "step-000000003 is saved" in warning


CHILD = """
import os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import test_checkpoint_faults as t
from entrenar_core.io.os_calls import os_calls
os_calls.fsync = lambda fd: None
root, count = Path(sys.argv[2]), int(sys.argv[3])
for at in range(1, count + 1):
    t.prepare(root / str(at))
    child = os.fork()
    if child == 0:
        with t.inject(at, kill=True):
            t.save(root / str(at), t.KEPT + 1)
        os._exit(0)  # reached only if nothing killed it
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.tier2
def test_a_process_killed_at_any_operation_leaves_old_or_new(ram_path):
    count = number_of_operations(ram_path / "count")
    here = Path(__file__).parent
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", CHILD, here, ram_path, str(count)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
    )
    assert done.stdout.split() == ["-9"] * count
    found = []
    for at in range(1, count + 1):
        found.append(verified_step(ram_path / str(at)))
        save(ram_path / str(at), KEPT + 2)
        assert verified_step(ram_path / str(at)) == KEPT + 2
    assert found == sorted(found)  # old until the commit, new from then on
    assert set(found) == {KEPT, KEPT + 1}
