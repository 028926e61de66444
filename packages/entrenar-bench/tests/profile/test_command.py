"""The command `profile`, from its arguments to its files."""

import json

import pytest
from click.testing import CliRunner

from entrenar_bench.profile_command import profile

pytestmark = pytest.mark.tier2


def run(*arguments):
    """Exit code, standard output and standard error."""
    done = CliRunner().invoke(profile, [*map(str, arguments)], standalone_mode=False)
    assert done.exception is None
    return done.return_value, done.stdout, done.stderr


def test_page_and_trace_are_written_and_the_record_is_printed(config, tmp_path):
    page, trace = tmp_path / "report.html", tmp_path / "trace.json"
    code, printed, _ = run(
        "--config", config, "--output", page, "--trace", trace, "--steps", 2, "--json", "--quiet",
        "--include-loss-curves", "--include-memory-timeline", "--include-throughput-histogram",
        "--set", "training.batch_size=1",
    )  # fmt: skip
    document = json.loads(printed)
    assert code == 0
    assert document["schema"] == "entrenar.bench.profile/1"
    data = document["data"]
    assert (data["steps"], {t["tokens"] for t in data["taken"]}) == (2, {32})
    assert data["ceilings"]["gflops"] > 0 and data["ceilings"]["gigabytes"] > 0
    assert page.read_text().startswith("<!DOCTYPE html>")
    spans = [e for e in json.loads(trace.read_text())["traceEvents"] if e["name"] == "step"]
    assert [e["args"] for e in spans] == [{"step": 3}, {"step": 6}]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["report.html", "trace.json"]


def test_the_tables_say_what_watching_costs(config):
    _, printed, _ = run("--config", config, "--steps", 1, "--quiet")
    assert "watching costs" in printed and "teacher, forward" in printed


@pytest.mark.parametrize(
    ("name", "said"), [("no/such/report.html", "there is no folder"), (".", "is a folder")]
)
def test_a_file_that_cannot_be_written_is_refused_first(config, tmp_path, name, said):
    code, printed, told = run("--config", config, "--output", tmp_path / name)
    assert (code, printed) == (10, "")
    assert said in told and "hint: " in told


def test_one_name_for_two_files_is_refused(config, tmp_path):
    code, _, told = run("--config", config, "--output", tmp_path / "a", "--trace", tmp_path / "a")
    assert code == 10 and "is named for two files" in told


def test_no_steps_are_no_profile(config):
    code, _, told = run("--config", config, "--steps", 0)
    assert code == 2 and "0 is not in the range" in told
