"""A training on a whole terminal: what reaches it, what it costs, how it is given back."""

import io
import os
import pty
import re
import select
import subprocess
import sys
import termios
import time

import pytest

from entrenar_common.live import LiveTraining
from entrenar_common.output import Output
from entrenar_common.progress import LineProgress
from entrenar_common.screen import Screen
from entrenar_common.testing import Clock, RecordedProgress

ENTER, LEAVE = "\x1b[?1049h\x1b[?25l\x1b[?7l", "\x1b[?7h\x1b[?25h\x1b[?1049l"


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self):
        return True


class Sized(Screen):
    """A screen of a size that can be changed."""

    now = (80, 24)

    @property
    def size(self):
        return self.now


def record(step, **more):
    return {
        "phase": "student", "step": step, "loss": 4.0 / step, "learning_rate": 1e-3,
        "grad_norm": 1.0, "tokens_per_second": 1000.0, "memory_bytes": 10**9, **more,
    }  # fmt: skip


@pytest.fixture
def terminal(monkeypatch):
    """Standard error, as a terminal; without colour."""
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    return stream


@pytest.fixture
def live(terminal):
    """One that draws only when it is told to."""
    screen = Sized(terminal, color=False)
    made = LiveTraining(screen, RecordedProgress(), clock=Clock(), interval=3600)
    yield made
    made.close()


def begin(live, **changes):
    sys.stderr = live._screen._stream  # pytest puts its own there after fixtures are made
    live.begin("student", **({"first_step": 0, "total_steps": 4, "steps_per_epoch": 2.0} | changes))


def rows(text, height=24):
    """The lines on a terminal that got `text`, which positions every line and wraps none."""
    shown = [""] * height
    for row, line in re.findall(r"\x1b\[(\d+);1H\x1b\[K([^\x1b]*)", text.rpartition("\x1b[2J")[2]):
        shown[int(row) - 1] = line
    return [line.rstrip() for line in shown]


def test_screen_is_taken_for_a_phase_and_given_back_with_a_line_that_stays(live, terminal):
    begin(live)
    for step in (1, 2, 3, 4):
        live.step(record(step, **({"held_out_loss": 2.0} if step == 2 else {})))
    live._clock.now += 8
    live.end("finished")
    text = terminal.getvalue()
    assert text.startswith(ENTER)
    after = text.partition(LEAVE)[2]
    assert "\x1b" not in after
    assert after == (
        "student: finished, 4/4 steps in 8.0s, loss 1.000, held-out 2.000, best 2.000 at step 2\n"
    )


def test_screen_shows_the_state_as_it_is_when_it_is_drawn(live, terminal):
    begin(live)
    live.step(record(1))
    live._clock.now += 2
    live.draw()
    assert rows(terminal.getvalue())[0] == "student  step 1/4 (25%)  epoch 0.50/2.00  2s, 6s left"


def test_screen_gets_only_the_lines_that_changed(live, terminal):
    begin(live)
    live.step(record(1))
    live.draw()
    before = len(terminal.getvalue())
    live._clock.now += 1
    live.draw()
    assert re.findall(r"\x1b\[(\d+);1H", terminal.getvalue()[before:]) == ["1"]
    before = len(terminal.getvalue())
    live.draw()
    assert terminal.getvalue()[before:] == ""


def test_screen_is_drawn_anew_when_the_terminal_changes_its_size(live, terminal):
    begin(live)
    live.step(record(1))
    live.draw()
    for size in ((50, 12), (120, 40), (1, 1)):
        live._screen.now = size
        before = len(terminal.getvalue())
        live.draw()
        text = terminal.getvalue()[before:]
        assert text.startswith("\x1b[2J")
        shown = rows(text, height=size[1])
        assert max(map(len, shown)) <= size[0]
        assert shown[0].startswith("student  step 1/4"[: size[0] - 1])


def test_notices_are_shown_and_stay_when_the_phase_is_over(live, terminal):
    begin(live)
    live.step(record(1))
    live.notice(1, "spike: norm 9\x1b[2J", severity="serious")
    live.draw()
    assert r"!! step 1: spike: norm 9\x1b[2J" in rows(terminal.getvalue())
    live.end("finished")
    after = terminal.getvalue().partition(LEAVE)[2].splitlines()
    assert after[0] == r"student: !! step 1: spike: norm 9\x1b[2J"


def test_what_is_written_to_standard_error_meanwhile_is_shown_and_comes_out_after(live, terminal):
    begin(live)
    sys.stderr.write("warning: a\x1b[31m b\nhalf")
    live.draw()
    assert r"  step 0: warning: a\x1b[31m b" in rows(terminal.getvalue())
    live.end("failed")
    assert sys.stderr is terminal
    after = terminal.getvalue().partition(LEAVE)[2]
    assert after.startswith("warning: a\x1b[31m b\nhalf\nstudent: failed, 0/4 steps in ")


def test_tasks_between_trainings_go_to_the_bar_and_those_within_do_not(live):
    live.start("read", 3)
    live.advance(3)
    begin(live)
    live.start("student", 4)
    live.advance(1, loss=1.0)
    live.finish()
    live.end("finished")
    live.start("measure", None)
    assert live._otherwise.calls == [
        ("start", "read", 3), ("advance", 3, {}), ("finish",), ("start", "measure", None),
    ]  # fmt: skip


def test_closing_gives_the_terminal_back_wherever_the_training_is(live, terminal):
    begin(live)
    live.close()
    live.close()
    assert terminal.getvalue().count(LEAVE) == 1
    live.step(record(1))
    live.end("failed")
    assert terminal.getvalue().endswith(LEAVE)


def test_an_error_of_the_command_gives_the_terminal_back(terminal, monkeypatch):
    monkeypatch.setattr(sys, "stderr", terminal)
    out = Output()
    live = out.live()
    begin(live)
    out.close()
    assert terminal.getvalue().endswith(LEAVE)
    assert sys.stderr is terminal


@pytest.mark.parametrize("no_color", ["1", ""])
def test_no_color_is_obeyed(terminal, monkeypatch, no_color):
    monkeypatch.setenv("NO_COLOR", no_color)
    monkeypatch.setattr(sys, "stderr", terminal)
    live = Output().live()
    begin(live)
    live.close()
    colours = re.findall(r"\x1b\[[\d;]*m", terminal.getvalue())
    assert bool(colours) == (not no_color)


def test_screen_is_ascii_where_the_encoding_is_not_utf_8(terminal):
    terminal.encoding = "iso-8859-1"
    live = LiveTraining(Sized(terminal), RecordedProgress(), clock=Clock(), interval=3600)
    begin(live)
    live.step(record(1))
    live.draw()
    live.close()
    assert terminal.getvalue().isascii()
    assert rows(terminal.getvalue())[1] == "#" * 20 + "-" * 60


def test_a_terminal_that_is_gone_is_no_error_of_the_training(live, terminal):
    begin(live)
    terminal.close()
    live.step(record(1))
    live.draw()
    live.end("finished")


def test_without_a_terminal_there_is_a_note_and_plain_lines(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    out = Output(color=True)
    assert out.live() is None
    assert stream.getvalue() == (
        "--live: standard error is no terminal, so progress is shown as plain lines\n"
    )
    assert isinstance(out.progress(), LineProgress)


def test_quiet_shows_nothing_live(terminal):
    assert Output(quiet=True).live() is None
    assert terminal.getvalue() == ""


@pytest.mark.tier2
def test_drawing_takes_less_than_two_percent_of_steps_of_a_tenth_of_a_second(terminal):
    live = LiveTraining(Sized(terminal, color=True), RecordedProgress())
    live._screen.now = (200, 50)
    begin(live, total_steps=5000)
    for step in range(1, 2001):
        live.step(record(step))
    live.draw()
    took, drawings, began = time.process_time(), terminal.getvalue().count("\x1b[1;1H"), time.time()
    for step in range(2001, 2021):
        live.step(record(step))
        time.sleep(0.1)
    took, elapsed = time.process_time() - took, time.time() - began
    drawings = terminal.getvalue().count("\x1b[1;1H") - drawings
    live.end("finished")
    assert 1 <= drawings <= 8 * elapsed
    assert took < 0.02 * elapsed


PROGRAM = """
import os, signal, sys, time
from entrenar_common.output import Output
from entrenar_common import outcome
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job's is ignored
out = Output()
live = out.live()
def run():
    live.begin("student", first_step=0, total_steps=100, steps_per_epoch=50.0)
    try:
        for step in range(1, 100):
            live.step({"step": step, "loss": 1.0 / step})
            time.sleep(0.02)
            if step == 20:
                os.kill(os.getpid(), signal.SIGINT)
    finally:
        live.end("interrupted")
sys.exit(outcome.of(run, out, "program"))
"""


@pytest.mark.tier2
def test_ctrl_c_leaves_a_real_terminal_as_it_was():
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    before = termios.tcgetattr(theirs)
    environment = os.environ | {"TERM": "xterm-256color"}
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdin=theirs, stdout=theirs, stderr=theirs, env=environment
    )
    text = b""
    while LEAVE.encode() not in text or b"interrupted\r\n" not in text:
        assert select.select([ours], [], [], 60)[0], text  # nothing more is written
        text += os.read(ours, 65536)
    assert process.wait() == 130
    assert termios.tcgetattr(theirs) == before
    os.close(ours)
    os.close(theirs)
    shown, _, after = text.decode().partition(LEAVE)
    assert shown.startswith(ENTER)
    assert "\x1b" not in after
    assert after.startswith("student: interrupted, 20/100 steps in ")
