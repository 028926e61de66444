"""Distillations on a dataset of a hub on the loopback interface, by the command."""

import io
import shutil
from dataclasses import replace
from pathlib import Path

import pyarrow as arrow
import pyarrow.parquet as parquet
import pytest
import yaml

from entrenar_distill.report_json import read_report
from hub_server import COMMIT, Stored, branch, repository, run_client, serving

pytestmark = pytest.mark.tier3

NAME = "datasets/org/sentences"
MOVED = "d" * 40
CHILD = """
import contextlib, io, json, sys
from entrenar_distill.cli import main
with contextlib.redirect_stdout(io.StringIO()) as shown:
    code = main.main(["run", "-q", *sys.argv[1:]], standalone_mode=False)
print(json.dumps([code, shown.getvalue()]))
"""


def table(texts):
    found = io.BytesIO()
    parquet.write_table(arrow.table({"text": texts}), found, row_group_size=5)
    return found.getvalue()


@pytest.fixture(scope="module")
def texts(world):
    return [path.read_text() for path in sorted((world / "text").iterdir())]


class Machine:
    """A machine with a hub: `run(config)` is the command there; gives its code and its errors."""

    def __init__(self, hub, home):
        self.hub, self.home = hub, home

    def run(self, config, *options, **settings):
        where = {
            "HF_ENDPOINT": self.hub.endpoint, "HF_HOME": str(self.home / "hf"),
            "XDG_CACHE_HOME": str(self.home / "cache"), **settings,
        }  # fmt: skip
        arguments = map(str, ["--config", config, *options])
        (code, self.shown), said = run_client(CHILD, *arguments, settings=where)
        return code, said


@pytest.fixture
def machine(texts, tmp_path):
    data = {"data/train-00000-of-00001.parquet": Stored(table(texts), elsewhere=True)}
    with serving({NAME: repository(data)}) as hub:
        yield Machine(hub, tmp_path)


@pytest.fixture
def config(write_config):
    return write_config(dataset={"source": "huggingface", "name": "org/sentences"})


def weights(folder):
    return (folder / "model.safetensors").read_bytes()


def test_the_student_is_that_of_the_same_rows_in_a_file_however_they_are_fetched(
    machine, config, texts, make_config, tmp_path, train
):
    (tmp_path / "local").mkdir()
    (tmp_path / "local" / "rows.parquet").write_bytes(table(texts))
    rows = {"name": str(tmp_path / "local" / "rows.parquet")}
    train(make_config(tmp_path / "local", dataset=rows))
    streamed = ["--output", tmp_path / "streamed", "--set", "dataset.streaming=true"]
    settings = {"XDG_CACHE_HOME": str(tmp_path / "other")}
    assert machine.run(config) == (0, "")
    assert machine.run(config, *streamed, **settings) == (0, "")
    expected = weights(tmp_path / "local" / "out")
    assert weights(tmp_path / "out") == weights(tmp_path / "streamed") == expected


def test_a_run_says_its_commit_and_is_repeated_by_its_own_configuration(
    machine, config, texts, tmp_path
):
    machine.run(config)
    assert f"commit {COMMIT}" in machine.shown
    assert read_report(tmp_path / "out" / "report.json").dataset_revision == COMMIT
    written = tmp_path / "out" / "distill.yaml"
    assert yaml.safe_load(written.read_text())["dataset"]["revision"] == COMMIT
    _move(machine.hub, texts)
    assert machine.run(written, "--output", tmp_path / "again") == (0, "")
    assert weights(tmp_path / "again") == weights(tmp_path / "out")


def _move(hub, texts):
    """Gives the dataset other rows on its main branch; the commit before stays what it is."""
    before = replace(hub.repositories[NAME], revisions=(COMMIT,))
    data = {"data/train-00000-of-00001.parquet": Stored(table(texts[1:]), elsewhere=True)}
    hub.repositories[NAME] = replace(branch("main", MOVED, data), others=(before,))


def test_a_run_is_not_continued_on_other_rows(machine, config, texts, tmp_path):
    machine.run(config)
    _move(machine.hub, texts)
    code, said = machine.run(config, "--resume", "auto")
    assert code == 31
    assert f"dataset: was commit {COMMIT}, is {MOVED}" in said
    pinned = ["--resume", "auto", "--set", f"dataset.revision={COMMIT}"]
    assert machine.run(config, *pinned) == (0, "")


def test_offline_a_run_needs_its_tokens_only(machine, config, tmp_path):
    machine.run(config)
    shutil.rmtree(tmp_path / "hf")
    machine.hub.requests.clear()
    offline = {"HF_HUB_OFFLINE": "1"}
    assert machine.run(config, "--output", tmp_path / "again", **offline) == (0, "")
    assert weights(tmp_path / "again") == weights(tmp_path / "out")
    assert machine.hub.requests == []


def test_what_the_hub_lacks_is_refused_before_anything_is_written(machine, config, tmp_path):
    code, said = machine.run(config, "--set", "dataset.name=org/other")
    assert code == 14
    assert said.startswith("error[E-NOTFOUND]: org/other: no such dataset on the hub")
    assert "hint: " in said
    assert not Path(tmp_path / "out").exists()
