"""Studies are reproducible: `benchmarks/study_twice.py` on a toy, and what it would notice."""

import shutil

import click.testing
import pytest
import study_twice

from entrenar_bench.cli import main
from entrenar_bench.toy import CONFIG
from entrenar_core.kernels.cpu.compile import cache_folder

pytestmark = pytest.mark.tier3


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Where the folders of the studies are."""
    return tmp_path_factory.mktemp("twice")


@pytest.fixture(scope="module")
def found(place):
    """What differs between the same studies."""

    def run(folder, *arguments):
        patch.chdir(folder)
        done = click.testing.CliRunner().invoke(main, arguments)
        assert done.exit_code == 0, done.output

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NUMBA_CACHE_DIR", str(cache_folder()))
        patch.setenv("XDG_CACHE_HOME", str(place / "cache"))
        patch.setattr(study_twice, "entrenar_bench", run)
        return study_twice.made(place, ["--config", CONFIG], seeds="2", toy=True)


def test_the_same_study_twice_has_the_same_metrics_students_and_reports(found):
    assert found.differences == ()
    assert (found.again.runs, found.again.reports) == (4, 3)
    assert found.again.metrics > 3


@pytest.mark.usefixtures("found")
def test_a_last_digit_and_a_byte_of_a_report_are_noticed(place, tmp_path):
    one, changed = place / "one", tmp_path / "changed"
    shutil.copytree(one, changed)
    table, report = changed / study_twice.TABLE, changed / "report.md"
    loss = next(iter(study_twice.rows(changed).values()))["loss"]
    table.write_text(table.read_text().replace(loss, loss[:-1] + str((int(loss[-1]) + 1) % 10)))
    report.write_text(report.read_text() + "\n")
    differences = study_twice.compared(one, changed).differences
    assert len(differences) == 2
    assert f"loss is {loss}" in differences[0]
    assert differences[1] == "report.md differs"
