"""Which of the displays a command gets."""

import io
import sys

import pytest

from emulated import Emulated, Terminal
from entrenar_bench.study import Ended
from entrenar_bench.watching.choice import watch_of
from entrenar_bench.watching.live import LiveStudy
from entrenar_common.output import Output


def drive(study, plan, watch, error=None):
    watch.opened(study, plan, jobs=1)
    lease = study.claim("me")
    watch.began(lease.trial)
    if error:
        study.fail(lease, error)
    else:
        study.finish(lease, {"loss": 1.5})
    watch.ended(Ended(lease.trial, None if error else {"loss": 1.5}, error, 5))
    watch.closed()
    watch.finished(study)


def test_a_log_has_one_line_for_a_run_and_nothing_else(study, plan, monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    drive(study, plan, watch_of(Output(), None, metric="loss", goal="lower"))
    assert stream.getvalue().count("\n") == 1
    assert stream.getvalue().startswith("run 1 of 6: ")


@pytest.mark.parametrize(("error", "line"), [(None, False), ("too hot", True)])
def test_a_terminal_has_a_bar_and_lines_of_failures_alone(study, plan, monkeypatch, error, line):
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", "xterm")
    drive(study, plan, watch_of(Output(), None, metric="loss", goal="lower"), error)
    assert any("1/6" in row for row in stream.rows)
    assert ("run 1 of 6" in stream.getvalue()) == line


def test_quiet_says_nothing(study, plan, monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    drive(study, plan, watch_of(Output(quiet=True), None, metric="loss", goal="lower"), "no")
    assert stream.getvalue() == ""


def test_a_screen_gets_the_whole_view():
    screen = Emulated(Terminal())
    assert isinstance(watch_of(Output(), screen, metric="loss", goal="lower"), LiveStudy)
