"""The training log: whole lines, rewound exactly, readable to the end of a long run."""

import json
import math

import pytest

from entrenar_common.errors import FormatError
from entrenar_core.train.metrics import MetricsLog


@pytest.fixture
def log(tmp_path):
    return MetricsLog(tmp_path / "metrics.jsonl")


def steps(log):
    lines = log.path.read_text().splitlines()
    return [(record["phase"], record["step"]) for record in map(json.loads, lines)]


def fill(log, **counts):
    for phase, count in counts.items():
        for step in range(1, count + 1):
            log.append({"phase": phase, "step": step, "loss": 1 / step})


def test_what_is_not_finite_is_null(log):
    log.append({"phase": "a", "step": 1, "loss": math.nan, "grad_norm": math.inf})
    assert log.records("a") == [{"phase": "a", "step": 1, "loss": None, "grad_norm": None}]


def test_a_rewind_drops_the_later_lines_of_its_phase_only(log):
    fill(log, student=4, control=3)
    assert log.rewind("control", 1) == 2
    assert steps(log) == [("student", i) for i in (1, 2, 3, 4)] + [("control", 1)]


def test_an_earlier_phase_that_is_rewound_goes_on_in_its_place(log):
    fill(log, student=3, control=2)
    log.rewind("student", 2)
    log.append({"phase": "student", "step": 3})
    log.rewind("control", 2)
    assert steps(log) == [("student", i) for i in (1, 2, 3)] + [("control", i) for i in (1, 2)]


def test_a_torn_last_line_is_dropped(log):
    fill(log, student=2)
    with log.path.open("a") as file:
        file.write('{"phase": "student", "st')
    assert log.rewind("student", 2) == 0
    assert steps(log) == [("student", 1), ("student", 2)]


def test_a_rewind_that_drops_nothing_leaves_the_file_alone(log):
    fill(log, student=2)
    before = log.path.stat()
    log.rewind("student", 2)
    assert log.path.stat().st_ino == before.st_ino


def test_a_log_that_does_not_exist_is_empty(log):
    assert log.rewind("student", 0) == 0
    assert log.records("student") == []
    assert not log.path.exists()


@pytest.mark.parametrize("line", ["garbage", "[1]", '{"step": 1}'])
def test_a_damaged_line_is_named(log, line):
    fill(log, student=1)
    with log.path.open("a") as file:
        file.write(line + "\n")
    with pytest.raises(FormatError, match=r"metrics\.jsonl:2: "):
        log.rewind("student", 0)


@pytest.mark.tier2
def test_a_log_larger_than_the_limit_for_json_files_is_read(log):
    line = json.dumps({"phase": "student", "step": 1, "padding": "x" * 2**20}) + "\n"
    log.path.write_text(line * 70)
    assert log.rewind("student", 1) == 0
