import io
import re

import pytest

from entrenar_common.console import make_console
from entrenar_common.progress import (
    LineProgress,
    NullProgress,
    RichProgress,
    format_field,
    format_steps,
)
from entrenar_common.testing import Clock


def lines_of(work):
    stream, clock = io.StringIO(), Clock()
    work(LineProgress(stream, clock=clock), clock)
    return stream.getvalue().splitlines()


def test_log_has_a_line_at_the_start_each_ten_seconds_and_at_the_end():
    def work(progress, clock):
        progress.start("train", 100)
        for _ in range(100):
            clock.now += 0.25
            progress.advance(loss=2.5, tokens_per_s=12_300)
        progress.finish()

    assert lines_of(work) == [
        "train: started, 100 steps",
        "train: 40/100 (40%), loss 2.500, 12.3K tokens/s, 10s elapsed, 15s left",
        "train: 80/100 (80%), loss 2.500, 12.3K tokens/s, 20s elapsed, 5s left",
        "train: done, 100/100 in 25.0s, loss 2.500, 12.3K tokens/s",
    ]


def test_log_has_what_the_library_reckons_is_left_in_the_place_of_its_own_estimate():
    def work(progress, clock):
        progress.start("runs", 4)
        clock.now += 10
        progress.advance(seconds_left=90.0)

    assert lines_of(work)[-1] == "runs: 1/4 (25%), 10s elapsed, about 1m 30s left"


def test_log_of_a_task_of_unknown_length_counts_only():
    def work(progress, clock):
        progress.start("read", None)
        clock.now += 60
        progress.advance(1_200_000)
        progress.finish()

    assert lines_of(work) == [
        "read: started",
        "read: 1.20M, 1m 00s elapsed",
        "read: done, 1.20M in 1m 00s",
    ]


def test_log_says_when_a_task_was_stopped_before_its_end():
    def work(progress, clock):
        progress.start("train", 10)
        progress.advance(3)
        clock.now += 2
        progress.finish()

    assert lines_of(work)[-1] == "train: stopped, 3/10 in 2.0s"


def test_new_task_finishes_the_one_before_and_forgets_its_fields():
    def work(progress, clock):
        progress.start("a", 1)
        progress.advance(loss=1.0)
        progress.start("b\n", 1)
        progress.advance()
        progress.finish()
        progress.finish()

    assert lines_of(work) == [
        "a: started, 1 steps",
        "a: done, 1/1 in 0s, loss 1.000",
        r"b\n: started, 1 steps",
        r"b\n: done, 1/1 in 0s",
    ]


@pytest.mark.parametrize("make", [NullProgress, lambda: LineProgress(io.StringIO())])
def test_advance_and_finish_without_a_task_do_nothing(make, capfd):
    progress = make()
    progress.advance(3, loss=1.0)
    progress.finish()
    assert capfd.readouterr() == ("", "")


def frames_of(work, width=80):
    """What a bar draws, frame by frame, on a terminal without colour."""
    stream, clock = io.StringIO(), Clock()

    def console():
        made = make_console(stream, color=False, width=width)
        made._force_terminal = True
        return made

    work(RichProgress(console, clock=clock, live=False), clock)
    return [f for f in re.split(r"[\r\n]|\x1b\[[?0-9;]*[A-Za-z]", stream.getvalue()) if f.strip()]


def test_bar_shows_name_steps_fields_and_time():
    def work(progress, clock):
        progress.start("train", 50)
        for _ in range(50):
            clock.now += 2
            progress.advance(loss=2.5, tokens_per_s=12_300)
        progress.finish()

    last = frames_of(work)[-1]
    bar = "━" * 34
    assert last == f"train {bar} 50/50 loss 2.500  12.3K tokens/s 1m 40s"
    assert len(last) == 80


def test_bar_counts_down_what_the_library_reckons_is_left():
    def work(progress, clock):
        progress.start("runs", 4)
        clock.now += 10
        progress.advance(seconds_left=90.0)
        clock.now += 20
        progress.finish()

    assert frames_of(work)[-1].endswith("1/4  30s, about 1m 10s left")


def test_bar_shows_the_time_that_remains():
    def work(progress, clock):
        progress.start("train", 100)
        for _ in range(25):
            clock.now += 2
            progress.advance()
        progress.finish()

    assert frames_of(work)[-1].endswith(" 25/100  50s, 2m 30s left")


def test_bar_fits_a_narrow_terminal():
    def work(progress, clock):
        progress.start("train", 100)
        progress.advance(40, loss=2.5, tokens_per_s=12_300)
        progress.finish()

    assert max(map(len, frames_of(work, width=40))) <= 40


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("loss", 2.3456, "loss 2.346"),
        ("loss", 2.3, "loss 2.300"),
        ("lr", 3e-4, "lr 0.0003"),
        ("epoch", 3, "epoch 3"),
        ("grad_norm", float("nan"), "grad norm nan"),
        ("file", "a\nb", r"file a\nb"),
        ("tokens_per_s", 12_345.6, "12.3K tokens/s"),
        ("tokens_per_s", "–", "– tokens/s"),
    ],
)
def test_field_is_shown_by_its_name(name, value, text):
    assert format_field(name, value) == text


def test_steps_from_a_hundred_thousand_on_are_shown_to_three_digits():
    assert format_steps(99_999, 99_999) == "99999/99999"
    assert format_steps(5, 100_000) == "5/100K"
