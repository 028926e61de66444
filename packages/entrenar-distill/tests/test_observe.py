"""A distillation whose figures go to more places than its log."""

import csv
import json

import pytest

from entrenar_common.errors import StorageError
from entrenar_distill import pipeline
from entrenar_distill.config import resolve

pytestmark = pytest.mark.tier2


@pytest.fixture(scope="module")
def finished(make_config, tmp_path_factory, train):
    """The folder of a run with a control, observed in every way that needs no other package."""
    folder = tmp_path_factory.mktemp("observed")
    observe = {"csv": True, "tensorboard": str(folder / "events"), "spans": True}
    train(make_config(folder, observe=observe, control=True))
    return folder


def test_both_phases_are_in_the_table_as_they_are_in_the_log(finished):
    lines = (finished / "out" / "metrics.jsonl").read_text().splitlines()
    with (finished / "out" / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 8
    for row, line in zip(rows, map(json.loads, lines), strict=True):
        cells = {name: cell for name, cell in row.items() if cell}
        assert cells.pop("phase") == line.pop("phase")
        assert {name: float(cell) for name, cell in cells.items()} == line


def test_each_phase_is_a_run_of_tensorboard(finished):
    assert {path.name for path in (finished / "events").iterdir()} == {"student", "control"}


def test_spans_are_of_both_phases(finished):
    lines = (finished / "out" / "spans.jsonl").read_text().splitlines()
    steps = [s["phase"] for s in map(json.loads, lines) if s["name"] == "step"]
    assert steps == ["student"] * 4 + ["control"] * 4


def test_observing_changes_no_bit(finished, make_config, tmp_path, train):
    train(make_config(tmp_path))
    name = "out/model.safetensors"
    assert (tmp_path / name).read_bytes() == (finished / name).read_bytes()


def test_a_dry_run_refuses_a_folder_that_cannot_be_written(write_config, tmp_path):
    (tmp_path / "file").write_text("")
    config = write_config(observe={"tensorboard": str(tmp_path / "file" / "events")})
    with pytest.raises(StorageError, match="file: is not a folder"):
        pipeline.plan(resolve(config))
    assert not (tmp_path / "out").exists()
