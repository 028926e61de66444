"""How a study looks on terminals of several sizes, as an emulator shows it."""

import io
import re

import pytest

from emulated import Emulated, Terminal
from entrenar_bench.watching.state import ArmState, RunState, StudyState
from entrenar_bench.watching.view import render
from entrenar_common.console import make_console

CURVE = [(step, 4.0 / step) for step in range(1, 41)]
RUNS = ("r", "s", "t")


def arm(name, values=(), *, planned=3, running=0, failed=0, seconds=12.0):
    values = tuple(values)
    took = seconds if values else None
    return ArmState(name, planned, RUNS[: len(values)], running, failed, values, took)


def run(name, seed=0, **changes):
    given = {"phase": "student", "step": 40, "total": 60, "rate": 3.25, "points": CURVE}
    return RunState(name, seed, **(given | changes))


def state(**changes):
    given = {
        "name": "Temperatures",
        "metric": "loss",
        "goal": "lower",
        "elapsed": 62.0,
        "left": 80.0,
        "arms": (
            arm("temperature=1", [2.5, 2.7, 2.6]),
            arm("temperature=2", [1.25, 1.75], running=1),
            arm("temperature=3", [3.0], failed=1),
        ),
        "running": (run("temperature=2", 2),),
        "ended": (run("temperature=1", 2),),
    }
    return StudyState(**(given | changes))


def shown(found, columns=80, lines=24):
    terminal = Terminal(columns, lines)
    screen = Emulated(terminal)
    screen.open()
    screen.draw(lambda width, height: render(found, width, height))
    return terminal.rows


def row_of(rows, beginning):
    return next(line for line in rows if line.startswith(beginning))


@pytest.mark.parametrize("columns", [80, 200])
def test_the_table_has_for_each_arm_its_runs_and_the_metric_with_its_spread(columns):
    rows = shown(state(), columns)
    assert row_of(rows, "arm").split() == ["arm", "runs", "now", "failed", "loss", "±", "time"]
    assert row_of(rows, "temperature=1").split()[1:] == ["3/3", "2.6000", "0.1", "12s"]
    # the deviation of two values is their distance over the root of 2
    assert row_of(rows, "temperature=2").split()[1:] == ["*", "2/3", "1", "1.5000", "0.35", "12s"]
    assert row_of(rows, "temperature=3").split()[1:] == ["1/3", "1", "3.0000", "12s"]


@pytest.mark.parametrize(
    ("goal", "best"), [("lower", "temperature=2"), ("higher", "temperature=3")]
)
def test_the_best_so_far_has_a_sign_and_the_sign_is_explained(goal, best):
    rows = shown(state(goal=goal))
    assert [line.split()[0] for line in rows if " *" in line[:30]] == [best]
    assert row_of(rows, "* best mean so far").startswith(
        f"* best mean so far; loss: {goal} is better"
    )


def test_what_runs_is_there_with_its_step_and_rate():
    line = row_of(shown(state()), "now temperature=2")
    assert line == "now temperature=2, seed 2: student step 40/60, 3.25 steps/s, loss 0.1000"


def test_a_run_that_has_not_told_a_step_has_begun():
    found = state(running=(run("temperature=2", step=0, rate=None, points=[]),))
    assert row_of(shown(found), "now ") == "now temperature=2, seed 0: has begun"


def test_the_time_left_is_called_an_estimate():
    assert shown(state(), 120)[0] == (
        "Temperatures  run 7/9 (78%), 1 failed  1m 02s, about 1m 20s left (an estimate)"
    )


def test_without_an_estimate_none_is_shown():
    assert "left" not in shown(state(left=None), 120)[0]


def test_curves_of_what_runs_come_before_those_of_what_is_done():
    titles = [line for line in shown(state(), 80) if re.search("done|now .*seed 2$", line)]
    assert len(titles) == 1
    assert titles[0].index("now temperature=2, seed 2") < titles[0].index("done temperature=1")


def test_a_wide_terminal_has_more_curves_beside_each_other():
    many = state(ended=tuple(run("temperature=1", seed) for seed in range(4)))
    counts = [sum(line.count("done ") for line in shown(many, columns)) for columns in (80, 200)]
    assert counts == [1, 4]


@pytest.mark.parametrize("columns", [1, 7, 30, 80, 200])
@pytest.mark.parametrize("lines", [1, 2, 3, 5, 9, 24, 60])
def test_the_view_fits_into_every_terminal(columns, lines):
    terminal = Terminal(columns, lines)
    Emulated(terminal)
    text = io.StringIO()
    console = make_console(text, color=False, width=columns)
    many = tuple(arm(f"learning_rate={i}", [float(i), i + 1.0]) for i in range(40))
    console.print(render(state(arms=many, remarks=["! a: failed"]), columns, lines), end="")
    rows = text.getvalue().split("\n")
    assert len(rows) <= lines
    assert max(map(len, rows)) <= columns


def test_of_more_arms_than_there_is_room_for_the_best_and_what_runs_are_shown():
    many = [arm(f"a={i}", [i + 5.0]) for i in range(40)]
    many[30], many[35] = arm("a=30", [1.0]), arm("a=35", running=1)
    rows = shown(state(arms=tuple(many)))
    names = [line.split()[0] for line in rows if line.startswith("a=")]
    assert {"a=30", "a=35"} <= set(names)
    assert f"{40 - len(names)} more arms" in row_of(rows, "* best")


def test_names_cannot_steer_the_terminal():
    found = state(arms=(arm("a\x1b[2J", [1.0]),), running=(), ended=(), name="b\x1b[3J")
    rows = shown(found)
    assert rows[0].startswith(r"b\x1b[3J  run")
    assert row_of(rows, r"a\x1b[2J *")


def test_a_run_that_was_not_finite_makes_its_arm_not_the_best():
    arms = (arm("a", [float("nan"), 1.0]), arm("b", [9.0]))
    rows = shown(state(arms=arms))
    assert row_of(rows, "a ").split()[2] == "nan"
    assert row_of(rows, "b *")


def test_the_view_is_ascii_where_the_encoding_is_not_utf_8():
    stream = io.TextIOWrapper(io.BytesIO(), "ascii")
    make_console(stream, color=False, width=80).print(render(state(), 80, 24), end="")
    stream.flush()
    assert "0.35" in stream.buffer.getvalue().decode("ascii")
