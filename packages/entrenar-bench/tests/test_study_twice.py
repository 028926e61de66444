"""Studies are reproducible: `benchmarks/study_twice.py` on a toy, and what it would notice."""

import os
import shutil
from pathlib import Path

import click.testing
import pytest
import study_twice

from entrenar_bench.cli import main
from entrenar_bench.toy import CONFIG, make_toy

pytestmark = pytest.mark.tier3


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """The same study in two folders, one and two runs at a time."""
    place = tmp_path_factory.mktemp("twice")
    kernels = os.environ.get("NUMBA_CACHE_DIR", Path.home() / ".cache/entrenar/kernels")

    def run(folder, *arguments):
        patch.chdir(folder)
        done = click.testing.CliRunner().invoke(main, arguments)
        assert done.exit_code == 0, done.output

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NUMBA_CACHE_DIR", str(kernels))
        patch.setenv("XDG_CACHE_HOME", str(place / "cache"))
        patch.setattr(study_twice, "entrenar_bench", run)
        for jobs, name in enumerate(("one", "other"), 1):
            (place / name).mkdir()
            make_toy(place / name, named=".")
            study_twice.study(place / name, ["--config", CONFIG], seeds="2", jobs=jobs)
    return place / "one", place / "other"


def test_the_same_study_twice_has_the_same_metrics_students_and_reports(folders):
    found = study_twice.compared(*folders)
    assert found.differences == ()
    assert (found.runs, found.reports) == (4, 3)
    assert found.metrics > 3


def test_a_last_digit_and_a_byte_of_a_report_are_noticed(folders, tmp_path):
    changed = tmp_path / "changed"
    shutil.copytree(folders[0], changed)
    table, report = changed / study_twice.TABLE, changed / "report.md"
    loss = next(iter(study_twice.rows(changed).values()))["loss"]
    table.write_text(table.read_text().replace(loss, loss[:-1] + str((int(loss[-1]) + 1) % 10)))
    report.write_text(report.read_text() + "\n")
    differences = study_twice.compared(folders[0], changed).differences
    assert len(differences) == 2
    assert f"loss is {loss}" in differences[0]
    assert differences[1] == "report.md differs"
