"""The command `report`: what it writes, and what it refuses."""

import json

import pytest
from click.testing import CliRunner

from entrenar_bench.cli import main
from entrenar_bench.study import Arm, Plan, Study
from entrenar_common.testing import run_cli
from report_samples import READERS, check_latex


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Two studies of equal runs, one of which took three times as long."""
    folder = tmp_path_factory.mktemp("studies")
    for name, pace in (("quick.study", 1.0), ("slow.study", 3.0)):
        times = iter(range(1000))
        plan = Plan((Arm("one", {"x": 1}), Arm("two|2", {"x": 2})), (0, 1, 2), name="kd")
        with Study.create(
            folder / name, plan, clock=lambda times=times, pace=pace: pace * next(times)
        ) as study:
            while lease := study.claim("a worker"):
                loss = lease.trial.config["x"] + lease.trial.seed / (10 + lease.trial.config["x"])
                study.report(lease, 1, {"loss": loss + 1})
                study.finish(lease, {"loss": loss})
    return folder


@pytest.fixture
def report(made, monkeypatch):
    """The command in this process, which has what takes long to import."""
    monkeypatch.chdir(made)
    return lambda *arguments: CliRunner().invoke(main, ["report", *arguments])


@pytest.mark.parametrize("form", READERS)
def test_equal_studies_have_equal_reports_without_timings(made, report, form):
    texts = []
    for name in ("quick.study", "slow.study"):
        (made / "a.study").write_bytes((made / name).read_bytes())
        done = report("a.study", "--format", form, "--output", "r", "--no-timings")
        assert done.exit_code == 0, done.stderr
        texts.append((made / "r").read_bytes())
    assert texts[0] == texts[1]
    _, tables = READERS[form](texts[0].decode())
    assert any(row[0] == "two|2" for table in tables for row in table)
    if form == "latex":
        check_latex(texts[0].decode())


@pytest.mark.tier2
def test_the_result_says_what_was_written(made):
    arguments = ["report", "quick.study", "--output", "r.html", "--json"]
    done = run_cli(["entrenar-bench", *arguments], cwd=made)
    found = json.loads(done.stdout)
    assert found["schema"] == "entrenar.bench.report/1"
    assert found["data"]["bytes"] == (made / "r.html").stat().st_size


@pytest.mark.parametrize(
    ("arguments", "code", "hint"),
    [
        (["quick.study", "--metric", "los"], 14, "did you mean loss?"),
        (["quick.study", "--metric", "loss:least"], 2, "accuracy:higher"),
        (["quick.study", "--baseline", "ones"], 14, "one"),
        (["quick.study", "slow.study"], 10, "other seeds"),
        (["none.study"], 14, "create it"),
        (["quick.study", "--alpha", "2"], 10, "0.05"),
    ],
)
def test_what_cannot_be_reported_writes_nothing_and_says_the_next_step(
    made, report, arguments, code, hint
):
    done = report(*arguments, "--output", "wrong.html")
    assert done.exit_code == code, done.stderr
    assert done.stderr.startswith("error[")
    assert hint in done.stderr
    assert not (made / "wrong.html").exists()
