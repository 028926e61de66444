"""What a display knows of a study, from what it is told and what the study has."""

import pytest

from entrenar_bench.study import Arm, Ended, Plan, Step
from entrenar_bench.watching.board import Board


@pytest.fixture
def board(clock):
    return Board("loss", "lower", clock=clock)


def do(study, board, clock, loss, *, took=10.0, error=None):
    """One run of the study, from its beginning to its end."""
    lease = study.claim("me")
    board.began(lease.trial)
    clock.now += took
    if error:
        study.fail(lease, error)
    else:
        study.finish(lease, {"loss": loss})
    metrics = None if error else {"loss": loss}
    board.ended(Ended(lease.trial, metrics, error, 0))
    return lease.trial


def test_runs_that_were_finished_before_are_counted_and_timed(study, plan, clock):
    first = Board("loss", "lower", clock=clock)
    first.opened(study, plan, jobs=1)
    do(study, first, clock, 1.0)
    board = Board("loss", "lower", clock=clock)
    board.opened(study, plan, jobs=1)
    state = board.state()
    assert (state.done, state.planned, state.elapsed) == (1, 6, 0.0)
    assert state.left == 5 * 10.0


def test_the_time_left_falls_as_a_run_goes_on_and_is_none_before_the_first_end(
    study, plan, board, clock
):
    board.opened(study, plan, jobs=1)
    assert board.state().left is None
    do(study, board, clock, 1.0, took=8.0)
    assert board.state().left == 5 * 8.0
    board.began(study.claim("me").trial)
    clock.now += 3
    assert board.state().left == 5 * 8.0 - 3


def test_a_failed_run_is_counted_and_said_and_gives_no_time(study, plan, board, clock):
    board.opened(study, plan, jobs=1)
    trial = do(study, board, clock, 0.0, error="no\x1b[2J")
    state = board.state()
    assert (state.failed, state.done, state.left) == (1, 1, None)
    assert state.remarks == (rf"! {trial.arm}, seed {trial.seed}: failed: no\x1b[2J",)


def test_what_another_driver_has_done_is_seen_when_a_run_ends_here(study, plan, board, clock):
    board.opened(study, plan, jobs=1)
    study.finish(study.claim("another"), {"loss": 5.0})
    do(study, board, clock, 1.0)
    assert board.state().done == 2


def test_runs_of_an_edited_study_that_the_plan_has_not_are_not_shown(study, clock, board):
    less = Plan(arms=(Arm("two", {"x": 2}),), seeds=(0, 1))
    board.opened(study, less, jobs=1)
    state = board.state()
    assert [arm.name for arm in state.arms] == ["two"]
    assert state.planned == 2


def test_an_arm_that_the_plan_did_not_have_yet_is_added_when_it_begins(study, clock, board):
    board.opened(study, Plan(arms=(Arm("two", {"x": 2}),), seeds=(0,)), jobs=1)
    trials = [study.claim("me").trial for _ in range(2)]
    for trial in trials:
        board.began(trial)
    assert {arm.name for arm in board.state().arms} == {"one", "two"}


def test_the_rate_is_that_of_the_steps_between_messages(study, plan, board, clock):
    board.opened(study, plan, jobs=1)
    trial = study.claim("me").trial
    board.began(trial)
    board.stepped(trial, [Step(1, 100, {"loss": 4.0}, "student")])
    assert board.state().running[0].rate is None
    clock.now += 2
    board.stepped(trial, [Step(n, 100, {"loss": 4.0 / n}, "student") for n in range(2, 12)])
    run = board.state().running[0]
    assert (run.step, run.total, run.rate) == (11, 100, 10 / 2)
    assert run.points == [(n, 4.0 / n) for n in range(1, 12)]


def test_the_steps_of_another_phase_have_a_rate_of_their_own_and_leave_the_curve(
    study, plan, board, clock
):
    board.opened(study, plan, jobs=1)
    trial = study.claim("me").trial
    board.began(trial)
    board.stepped(trial, [Step(9, 9, {"loss": 1.0}, "student")])
    clock.now += 1
    board.stepped(trial, [Step(1, 9, {}, "control")])
    run = board.state().running[0]
    assert (run.phase, run.step, run.rate, run.points) == ("control", 1, None, [(9, 1.0)])


def test_a_curve_stays_small_however_many_steps_there_are(study, plan, board):
    board.opened(study, plan, jobs=1)
    trial = study.claim("me").trial
    board.began(trial)
    board.stepped(trial, [Step(n, None, {"loss": 1.0}) for n in range(1, 10_000)])
    assert len(board.state().running[0].points) <= 256
