"""The command `layers`, on models that this library wrote."""

import csv
import io
import json

import numpy as np
import pytest

from entrenar_common.errors import NotFoundError
from entrenar_common.progress import NullProgress
from entrenar_common.testing import run_cli
from entrenar_core.io.safetensors import write_file
from entrenar_inspect.layers import drawn, layers
from entrenar_inspect.opening import open_artifact
from entrenar_inspect.pooled import pooled
from entrenar_inspect.values import values_of

SIZE = 40


def arrays():
    rng = np.random.default_rng(0)
    found = {"model.embed.weight": rng.standard_normal((SIZE, 8)).astype(np.float32)}
    for i in range(3):
        found[f"model.layers.{i}.up.weight"] = rng.standard_normal((16, 8)).astype(np.float16)
        found[f"model.layers.{i}.norm.weight"] = np.ones(8, np.float32)
    return found


@pytest.fixture
def file(tmp_path):
    write_file(tmp_path / "some.safetensors", arrays())
    return tmp_path / "some.safetensors"


def run(*arguments):
    return run_cli(["entrenar-inspect", "layers", *map(str, arguments)], env={"COLUMNS": "80"})


def test_json_has_every_tensor_with_its_figures(file):
    done = run(file, "--stats", "--json")
    document = json.loads(done.stdout)
    assert document["schema"] == "entrenar.inspect.layers/1"
    found = {tensor["name"]: tensor for tensor in document["data"]["tensors"]}
    assert found.keys() == arrays().keys()
    for name, array in arrays().items():
        assert found[name]["shape"] == list(array.shape)
        assert found[name]["nbytes"] == array.nbytes
        wide = array.astype(np.float64)
        assert found[name]["values"]["mean"] == pytest.approx(wide.mean(), abs=1e-7)
        assert found[name]["values"]["deviation"] == pytest.approx(wide.std(), abs=1e-7)


def test_a_table_fits_in_80_columns_and_has_the_totals(file):
    done = run(file)
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert "layers.[0-2] × 3" in done.stdout
    assert f"{sum(a.size for a in arrays().values()):,}" in done.stdout
    assert done.stderr == ""


def test_figures_are_drawn_in_80_columns(file):
    done = run(file, "--stats", "--quiet")
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert done.stdout.count("█") >= 3


def test_comma_separated_values_have_a_line_for_each_tensor(file):
    rows = list(csv.DictReader(io.StringIO(run(file, "--csv").stdout)))
    assert [row["name"] for row in rows] == [*open_names(file)]
    assert {row["name"]: row["shape"] for row in rows}["model.embed.weight"] == f"{SIZE}x8"


def open_names(file):
    with open_artifact(str(file)) as artifact:
        return list(artifact.tensors)


def test_a_filter_begins_at_any_part_of_a_name(file):
    found = json.loads(run(file, "--filter", "layers.1.*", "--json").stdout)
    names = [tensor["name"] for tensor in found["data"]["tensors"]]
    assert sorted(names) == ["model.layers.1.norm.weight", "model.layers.1.up.weight"]


def test_a_filter_that_matches_nothing_is_an_error(file):
    with open_artifact(str(file)) as artifact, pytest.raises(NotFoundError, match="matches 'x'"):
        layers(artifact, only="x", progress=NullProgress())


def test_two_forms_at_once_are_refused(file):
    assert run(file, "--csv", "--json").returncode == 2


def test_a_file_that_is_not_there_is_an_error(tmp_path):
    done = run(tmp_path / "none.safetensors")
    assert done.returncode == 14
    assert "no such file" in done.stderr


def test_a_number_that_is_not_finite_is_shown(tmp_path):
    array = np.ones((4, 4), np.float32)
    array[2, 3] = np.nan
    write_file(tmp_path / "bad.safetensors", {"w": array})
    assert (
        "1 NaN, 0 infinite, the first at 11" in run(tmp_path / "bad.safetensors", "--stats").stdout
    )


def test_pooled_figures_are_those_of_all_numbers(file):
    with open_artifact(str(file)) as artifact:
        names = [name for name in artifact.tensors if "up" in name]
        found = pooled([values_of(artifact, name) for name in names])
    every = np.concatenate([arrays()[name].reshape(-1) for name in names]).astype(np.float64)
    assert found is not None
    assert found.mean == pytest.approx(every.mean(), abs=1e-12)
    assert found.deviation == pytest.approx(every.std(), rel=1e-9)
    assert (found.minimum, found.maximum) == (every.min(), every.max())
    assert found.elements == every.size
    assert sum(found.histogram.counts) == every.size


def test_what_is_not_empty_is_seen_in_a_histogram(file):
    with open_artifact(str(file)) as artifact:
        values = values_of(artifact, "model.embed.weight")
    line = drawn(values.histogram)
    assert len(line) == 10
    assert "█" in line
