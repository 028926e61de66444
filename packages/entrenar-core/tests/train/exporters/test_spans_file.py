"""spans.jsonl has every span that was told of, at the time of the clock on the wall."""

import json
import time

import pytest

from entrenar_common.errors import StorageError
from entrenar_core.train.callbacks import Callback
from entrenar_core.train.exporters.spans_file import SpansLog

pytestmark = pytest.mark.tier2


class Told(Callback):
    def __init__(self):
        self.spans = []

    def span(self, span):
        self.spans.append(span)


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_every_span_is_a_line(training, tmp_path):
    told, path, before = Told(), tmp_path / "new" / "spans.jsonl", time.time_ns()
    training.run(told, SpansLog(path))
    found = lines(path)
    names = ("name", "number", "parent", "seconds", "resident_bytes", "attributes")
    assert [{n: line[n] for n in names} for line in found] == [
        {n: getattr(span, n) for n in names} for span in told.spans
    ]
    assert {line["phase"] for line in found} == {"training"}
    assert len({line["trace"] for line in found}) == 1
    assert all(before - 10**9 < line["started"] < time.time_ns() + 10**9 for line in found)
    offsets = {line["started"] - span.started for line, span in zip(found, told.spans, strict=True)}
    assert len(offsets) == 1  # nothing but the clock's zero


def test_a_run_that_goes_on_appends_under_another_trace(training, tmp_path):
    path = tmp_path / "spans.jsonl"
    training.crash(5, SpansLog(path))
    first = lines(path)
    assert first[-1]["name"] == "run"  # those that were open when it crashed too
    training.run(SpansLog(path), resume=True)
    assert lines(path)[: len(first)] == first
    assert len({line["trace"] for line in lines(path)}) == 2
    steps = [line["attributes"]["step"] for line in lines(path) if line["name"] == "step"]
    assert steps == [1, 2, 3, 4, 5, 5, 6]


def test_a_line_that_was_cut_off_is_dropped(training, tmp_path):
    path = tmp_path / "spans.jsonl"
    path.write_text('{"name": "a"}\n{"na')
    training.run(SpansLog(path))
    assert lines(path)[0] == {"name": "a"}
    assert lines(path)[1]["phase"] == "training"


def test_a_folder_that_cannot_be_written_is_found_before_the_first_step(training, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        training.run(SpansLog(tmp_path / "file" / "spans.jsonl"))
    assert not (training.folder / "metrics.jsonl").exists()
