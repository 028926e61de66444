"""A merge that is cut off goes on where it was, and ends as if nothing had happened."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from entrenar_common.errors import ConfigError, NumericsError, StorageError
from entrenar_core.io.faults import inject
from entrenar_core.merge import output
from entrenar_core.merge.models import merge_models
from merge_files import tensors_of
from mergeable import contents, edit_config, edit_tensors, write_family
from word_tokenizers import of_words

SHARD_BYTES = 6000
"""Some ten files for a model of 35 kB."""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(output, "MAX_SHARD_BYTES", SHARD_BYTES)
    return write_family(tmp_path)


def merged(folder, name="out", **changes):
    """The files of a merge to `name`; it goes on where it was cut off."""
    given = {"method": "dare_ties", "weight": [0.6, 0.3], "density": 0.5, "seed": 3} | changes
    merge_models([folder / "a", folder / "b"], base=folder / "base", output=folder / name, **given)
    return contents(folder / name)


def straight(folder, **changes):
    """What a merge makes that nothing disturbs; the card names the folder."""
    elsewhere = folder / "straight"
    elsewhere.mkdir(exist_ok=True)
    given = {"method": "dare_ties", "weight": [0.6, 0.3], "density": 0.5, "seed": 3} | changes
    merge_models(
        [folder / "a", folder / "b"], base=folder / "base", output=elsewhere / "out", **given
    )
    return contents(elsewhere / "out")


def operations(folder):
    """How many file operations an undisturbed merge makes."""
    with inject() as counted:
        merged(folder, "counted")
    return len(counted.calls)


def cut_off(folder, at, **changes):
    """A merge that finds the disk full at its `at`-th file operation, and so on; its finished
    files by name."""
    with pytest.raises(StorageError), inject(at, errno=errno.ENOSPC, forever=True):
        merged(folder, **changes)
    assert not (folder / "out").exists()
    left = folder / ".out.merging"
    return {path.name: path for path in left.glob("*.safetensors")}


def test_a_merge_of_shards_has_an_index_of_them(folder):
    found = merged(folder)
    index = json.loads(found["model.safetensors.index.json"])["weight_map"]
    assert len(set(index.values())) > 4
    assert index.keys() == tensors_of(folder / "base").keys()


@pytest.mark.tier2
def test_cut_off_anywhere_it_goes_on_and_ends_the_same(folder):
    wanted, count = straight(folder), operations(folder)
    for at in range(3, count, max(1, count // 12)):
        cut_off(folder, at)
        assert merged(folder) == wanted, at
        assert not (folder / ".out.merging").exists()
        (folder / "out").rename(folder / f"done-{at}")


def test_finished_shards_are_not_written_again(folder):
    left = cut_off(folder, operations(folder) // 2)
    assert left
    before = {name: (p.stat().st_ino, p.stat().st_mtime_ns) for name, p in left.items()}
    merged(folder)
    after = {name: (folder / "out" / name).stat() for name in before}
    assert {name: (s.st_ino, s.st_mtime_ns) for name, s in after.items()} == before


def test_what_was_measured_before_is_in_the_figures(folder):
    def figures(name):
        done = merge_models(
            [folder / "a", folder / "b"], base=folder / "base", output=folder / name,
            method="task_arithmetic",
        )  # fmt: skip
        return done.total, done.tensors

    wanted = figures("other")
    with pytest.raises(StorageError), inject(operations(folder) // 2, errno=28, forever=True):
        figures("out")
    total, tensors = figures("out")
    assert tensors.keys() == wanted[1].keys()
    assert total.norms == pytest.approx(wanted[0].norms)
    assert total.weights == pytest.approx(wanted[0].weights)


def test_a_damaged_finished_shard_is_made_anew(folder):
    wanted = straight(folder)
    left = cut_off(folder, operations(folder) // 2)
    path = min(left.values())
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    assert merged(folder) == wanted


def test_a_damaged_journal_begins_anew(folder):
    wanted = straight(folder)
    cut_off(folder, operations(folder) // 2)
    (folder / ".out.merging" / "merge-journal.json").write_text('{"fingerprint": ')
    assert merged(folder) == wanted


@pytest.mark.parametrize(
    "changes", [{"weight": [0.6, 0.2]}, {"seed": 4}, {"method": "dare_linear"}]
)
def test_another_merge_begins_anew(changes, folder):
    wanted = straight(folder, **changes)
    cut_off(folder, operations(folder) // 2)
    assert merged(folder, **changes) == wanted


def test_other_weights_of_a_model_begin_anew(folder):
    cut_off(folder, operations(folder) // 2)
    tensors = {name: -array for name, array in tensors_of(folder / "b").items()}
    edit_tensors(folder / "b", tensors)
    assert merged(folder) == straight(folder)


def test_another_tokenizer_of_a_model_begins_anew(folder):
    """The rows of the embeddings follow the tokens."""
    union = {"tokenizer_source": "union"}
    for name in ("base", "a", "b"):
        give_words(folder / name, "? one two three")
    cut_off(folder, operations(folder) // 2, **union)
    give_words(folder / "b", "? three one two")
    assert merged(folder, **union) == straight(folder, **union)


def give_words(folder, words):
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink(missing_ok=True)
    of_words(*words.split()).save(folder)


def test_another_config_of_the_donor_is_the_one_that_is_written(folder):
    cut_off(folder, operations(folder) // 2)
    edit_config(folder / "base", rope_theta=321.0)
    assert merged(folder) == straight(folder)


def test_an_error_of_the_models_leaves_nothing(folder):
    name = max(tensors_of(folder / "b"))
    array = tensors_of(folder / "b")[name].copy()
    array.reshape(-1)[0] = np.nan
    edit_tensors(folder / "b", {name: array})
    before = sorted(folder.iterdir())
    with pytest.raises(NumericsError):
        merged(folder)
    assert sorted(folder.iterdir()) == before


def test_a_wrong_config_leaves_what_another_run_had_finished(folder):
    left = cut_off(folder, operations(folder) // 2)
    with pytest.raises(ConfigError):
        merged(folder, density=2)
    assert all(path.exists() for path in left.values())


@pytest.fixture
def killed(folder):
    """Runs a merge killed at each of the operations in turn; how each ended."""
    config = folder / "merge.yaml"
    config.write_text(
        f"merge_method: ties\nbase_model: {folder / 'base'}\nmodels:\n"
        + "".join(f"  - {{model: {folder / name}, parameters: {{weight: 0.5}}}}\n" for name in "ab")
        + "parameters: {density: 0.4}\n"
    )
    script = Path(__file__).with_name("killed_merge.py")

    def run(name, *moments):
        words = [sys.executable, str(script), str(config), str(folder / name), str(SHARD_BYTES)]
        done = subprocess.run(
            [*words, *map(str, moments)], capture_output=True, encoding="utf-8", timeout=120
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.split()

    return run


@pytest.mark.tier3
def test_killed_twice_it_goes_on_and_ends_the_same(folder, killed):
    (folder / "straight").mkdir()
    assert killed("straight/out", 0) == ["0"]
    wanted = contents(folder / "straight" / "out")
    assert killed("out", 31, 57, 0) == ["killed", "killed", "0"]
    assert contents(folder / "out") == wanted
    assert not [path for path in folder.iterdir() if ".out" in path.name]


@pytest.mark.tier3
def test_while_one_merges_another_one_is_kept_out(folder):
    """The lock of the folder that is filled, held by this process."""
    from entrenar_common.errors import CheckpointError
    from entrenar_core.io.locks import lock

    (folder / ".out.merging").mkdir()
    with lock(folder / ".out.merging" / "merge.lock"):
        script = (
            "import sys; from entrenar_core.merge.models import merge_models\n"
            "merge_models(sys.argv[1:3], method='linear', output=sys.argv[3])"
        )
        done = subprocess.run(
            [sys.executable, "-c", script, *(str(folder / name) for name in ("a", "b", "out"))],
            capture_output=True, encoding="utf-8", timeout=60, env=os.environ,
        )  # fmt: skip
    assert CheckpointError.__name__ in done.stderr
    assert f"pid {os.getpid()}" in done.stderr
