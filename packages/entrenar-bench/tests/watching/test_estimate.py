"""The time that a study may still take, against what it is when nothing varies."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrenar_bench.watching.estimate import seconds_left


def test_before_a_run_is_finished_there_is_no_estimate():
    assert seconds_left(["a"], [("a", 5.0)], {}, jobs=1) is None
    assert seconds_left(["a"], [], {"a": []}, jobs=1) is None


@given(
    took=st.floats(1, 1000),
    waiting=st.integers(0, 50),
    age=st.floats(0, 1),
)
def test_runs_of_equal_length_one_after_the_other(took, waiting, age):
    left = seconds_left(["a"] * waiting, [("a", age * took)], {"a": [took]}, jobs=1)
    assert left == pytest.approx(took * (waiting + 1 - age))


@given(rounds=st.integers(1, 10), jobs=st.integers(1, 8), took=st.floats(1, 1000))
def test_whole_rounds_of_several_jobs(rounds, jobs, took):
    left = seconds_left(["a"] * (rounds * jobs), [], {"a": [took]}, jobs=jobs)
    assert left == pytest.approx(rounds * took)


def test_an_arm_takes_its_own_mean_and_one_without_runs_that_of_all():
    seconds = {"slow": [30.0, 50.0], "fast": [10.0]}
    assert seconds_left(["slow", "fast"], [], seconds, jobs=1) == 40 + 10
    assert seconds_left(["new"], [], seconds, jobs=1) == (30 + 50 + 10) / 3


def test_no_run_ends_before_its_own_time():
    assert seconds_left([], [("a", 2.0)], {"a": [10.0]}, jobs=4) == 8


def test_a_run_that_takes_longer_than_others_did_has_nothing_left():
    assert seconds_left(["a"], [("a", 99.0)], {"a": [10.0]}, jobs=1) == 10
