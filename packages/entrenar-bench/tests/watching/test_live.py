"""A study on a whole terminal: what reaches it, how often, and how it is given back."""

import sys

import pytest

from emulated import Emulated, Terminal
from entrenar_bench.study import Ended, Step
from entrenar_bench.watching.live import LiveStudy
from entrenar_bench.watching.plain import Curves, Plain
from entrenar_common.plot import UNICODE
from entrenar_common.testing import RecordedProgress

ENTER, LEAVE = "\x1b[?1049h", "\x1b[?1049l"


@pytest.fixture
def terminal():
    return Terminal()


@pytest.fixture
def told():
    return []


@pytest.fixture
def live(terminal, told, clock):
    """One that draws only when it is told to."""
    made = LiveStudy(
        Emulated(terminal),
        "loss",
        "lower",
        tell=told.append,
        curves=Curves(80, UNICODE),
        clock=clock,
        interval=3600,
    )
    yield made
    made.closed()


def finish(study, watch, loss, steps=()):
    lease = study.claim("me")
    watch.began(lease.trial)
    watch.stepped(lease.trial, [Step(n, None, {"loss": value}) for n, value in steps])
    study.report_steps(lease, [(n, {"loss": value}) for n, value in steps])
    study.finish(lease, {"loss": loss})
    watch.ended(Ended(lease.trial, {"loss": loss}, None, 0))
    return lease.trial


def test_the_screen_is_taken_and_given_back_with_a_line_that_stays(
    live, terminal, told, study, plan, clock
):
    live.opened(study, plan, jobs=1)
    trial = finish(study, live, 1.5)
    clock.now += 5
    live.draw()
    assert terminal.rows[0].startswith("study  run 1/6 (17%)  5s")
    live.closed()
    assert terminal.getvalue().startswith(ENTER)
    assert terminal.getvalue().endswith(LEAVE)
    assert told == [f"study: 1/6 runs in 5.0s, best {trial.arm} 1.5000"]


def test_the_view_follows_the_size_of_the_terminal(live, terminal, study, plan):
    live.opened(study, plan, jobs=1)
    finish(study, live, 1.5, steps=[(1, 4.0), (2, 3.0)])
    for columns, lines in ((200, 40), (50, 12), (80, 24)):
        terminal.resize(columns, lines)
        live.draw()
        rows = terminal.rows
        assert len(rows[1]) == columns  # the bar
        assert rows[0].startswith("study  run 1/6")
        assert any(row.startswith("arm ") for row in rows)


def test_a_thousand_steps_between_two_drawings_are_one_frame(live, terminal, study, plan):
    live.opened(study, plan, jobs=1)
    trial = study.claim("me").trial
    live.began(trial)
    live.draw()
    before = terminal.frames
    for number in range(1, 1001):
        live.stepped(trial, [Step(number, 1000, {"loss": 1.0})])
    assert terminal.frames == before
    live.draw()
    assert terminal.frames == before + 1
    live.draw()  # nothing is new
    assert terminal.frames == before + 1


def test_what_failed_stays_when_the_screen_is_given_back(live, terminal, told, study, plan):
    live.opened(study, plan, jobs=1)
    lease = study.claim("me")
    live.began(lease.trial)
    study.fail(lease, "too hot")
    live.ended(Ended(lease.trial, None, "too hot", 5))
    live.draw()
    line = f"! {lease.trial.arm}, seed {lease.trial.seed}: failed: too hot"
    assert line in terminal.rows
    live.closed()
    assert told[0] == f"study: {line}"


def test_what_others_write_is_shown_and_comes_out_after(live, terminal, study, plan, monkeypatch):
    monkeypatch.setattr(sys, "stderr", terminal)
    live.opened(study, plan, jobs=1)
    sys.stderr.write("a warning\n")
    live.draw()
    assert "  a warning" in terminal.rows
    live.closed()
    assert sys.stderr is terminal
    assert terminal.getvalue().partition(LEAVE)[2] == "a warning\n"


def test_the_curves_at_the_end_are_means_over_seeds(live, told, study, plan):
    live.opened(study, plan, jobs=1)
    for _ in range(6):
        lease = study.claim("me")
        live.began(lease.trial)
        x, seed = lease.trial.config["x"], lease.trial.seed
        study.report_steps(lease, [(n, {"loss": 10.0 * x / n + seed}) for n in (1, 2)])
        study.finish(lease, {"loss": 1.0})
        live.ended(Ended(lease.trial, {"loss": 1.0}, None, 0))
    told.clear()
    live.finished(study)
    assert told[0] == "study: loss by step, mean over seeds"
    assert "one (3 seeds) 11 → 6" in told[1]  # 10 and 5, and the mean seed of 0, 1 and 2
    assert "two (3 seeds) 21 → 11" in told[1]


def test_a_study_without_steps_has_no_curves(live, told, study, plan):
    live.opened(study, plan, jobs=1)
    finish(study, live, 1.0)
    told.clear()
    live.finished(study)
    assert told == []


def test_a_bar_has_the_best_so_far_and_the_time_left(study, plan, clock):
    progress, lines = RecordedProgress(), []
    plain = Plain(
        "loss", "lower", note=lines.append, line=lines.append, failure=lines.append,
        progress=progress,
    )  # fmt: skip
    plain.opened(study, plan, jobs=1)
    lease = study.claim("me")
    plain.began(lease.trial)
    clock.now += 7
    study.finish(lease, {"loss": 1.25, "seconds": 7.0})
    plain.ended(Ended(lease.trial, {"loss": 1.25, "seconds": 7.0}, None, 5))
    plain.closed()
    trial = lease.trial
    assert progress.calls == [
        ("start", "runs", 6),
        ("advance", 1, {"best": f"{trial.arm} 1.2500", "seconds_left": 35.0}),
        ("finish",),
    ]
    assert lines == [
        f"run 1 of 6: {trial.arm}, seed {trial.seed}: loss 1.2500, 7.0s; 5 left, about 35s"
    ]
