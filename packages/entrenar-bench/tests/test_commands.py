"""The commands of entrenar-bench, and the records that they show."""

import json

import click.testing
import pytest

from entrenar_bench.check import Check
from entrenar_bench.cli import main
from entrenar_bench.hardware import measure
from entrenar_bench.selftest import SelfTest
from entrenar_common.testing import render_plain


def run(*words: str) -> click.testing.Result:
    return click.testing.CliRunner().invoke(main, words)


def test_hardware_is_measured():
    found = measure(seconds=0.01, size=256, copy_bytes=2**22)
    assert min(found.repeats) >= 3
    assert found.sgemm_gflops > 0.5
    assert found.copy_gb_per_s > 0.1
    assert 1 <= found.usable_processors <= found.processors
    assert "GFLOP/s (256³, best of" in render_plain(found, width=120)


def test_hardware_says_which_variables_limit_threads(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    found = measure(seconds=0.0, size=8, copy_bytes=64)
    assert found.thread_variables["OMP_NUM_THREADS"] == "3"


@pytest.mark.tier2
def test_the_hardware_command_prints_a_document():
    document = json.loads(run("hardware", "--json").stdout)
    assert document["schema"] == "entrenar.bench.hardware/1"
    assert document["data"]["sgemm_gflops"] > 0


@pytest.mark.tier2
def test_the_selftest_of_the_statistics_passes():
    done = run("selftest", "--simulate", "50", "--json", "--quiet")
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert document["schema"] == "entrenar.bench.selftest/1"
    checks = document["data"]["checks"]
    assert {check["studies"] for check in checks} == {50}
    assert any(check["share"] > 0.5 for check in checks)  # a real effect is found


def test_too_few_simulations_are_a_usage_error():
    assert run("selftest", "--simulate", "10").exit_code == 2


@pytest.mark.parametrize(
    ("low", "high", "expected", "wanted", "passed"),
    [
        (0.03, 0.07, 0.05, "equal", True),
        (0.06, 0.09, 0.05, "equal", False),
        (0.01, 0.03, 0.05, "equal", False),
        (0.01, 0.03, 0.05, "at most", True),
        (0.06, 0.09, 0.05, "at most", False),
        (0.7, 0.9, 0.5, "at least", True),
        (0.7, 0.9, 0.95, "at least", False),
    ],
)
def test_a_share_passes_where_its_interval_has_what_is_expected(
    low, high, expected, wanted, passed
):
    check = Check("x", 100, (low + high) / 2, low, high, expected, wanted)
    found = SelfTest(0, (check,))
    assert found.passed is passed
    assert ("ok" if passed else "off") in render_plain(found)


def test_a_selftest_that_does_not_pass_is_a_finding(monkeypatch):
    bad = SelfTest(0, (Check("x", 100, 0.2, 0.1, 0.3, 0.05, "at most"),))
    monkeypatch.setattr("entrenar_bench.selftest.self_test", lambda *_args, **_options: bad)
    assert run("selftest").exit_code == 1
