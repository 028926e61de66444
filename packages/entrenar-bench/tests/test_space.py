"""Sweeps as they are written, and the points that they go through."""

import math

import pytest

from entrenar_bench.keys import full_key, with_full_keys
from entrenar_bench.runner import RESERVED, keys_of
from entrenar_bench.space import Axis, Span, grid, parse_axis, parse_seeds, random_points, stepped
from entrenar_common.errors import ConfigError
from entrenar_distill.config import DistillConfig


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("t=1:3:0.5", (1.0, 1.5, 2.0, 2.5, 3.0)),
        ("t=1:8:3", (1, 4, 7)),
        ("t=0:1:0.1", tuple(i / 10 for i in range(11))),
        ("t=2:2:1", (2,)),
        ("t=-1:1:1", (-1, 0, 1)),
        ("a = 0.3, 0.5,7", (0.3, 0.5, 7)),
        ("a=1e-4", (1e-4,)),
        ("kind=cosine,linear", ("cosine", "linear")),
        ("on=true,null", (True, None)),
        ("lr=log:1e-5..1e-3:3", (1e-5, 1e-4, 1e-3)),
        ("n=log:1..1000:4", (1, 10, 100, 1000)),
        ("lr=log:1e-5..1e-3", Span(1e-5, 1e-3, log=True)),
        ("t=1.0..8.0", Span(1.0, 8.0)),
        ("rank=4..64", Span(4, 64, whole=True)),
    ],
)
def test_an_axis_is_read_as_it_is_written(text, values):
    axis = parse_axis(text)
    assert axis == Axis(text.partition("=")[0].strip(), values)
    if isinstance(values, tuple):
        assert list(map(type, axis.values)) == list(map(type, values))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("t", "is no axis"),
        ("=1,2", "is no axis"),
        ("t=", "is no axis"),
        ("t=1:8:0", "the step is 0"),
        ("t=1:8:-1", "the step is -1"),
        ("t=8:1:1", "is empty: 8 is greater than 1"),
        ("t=8..1", "is empty"),
        ("t=1:x:1", "'x' is no number"),
        ("t=1:inf:1", "'inf' is no number"),
        ("t=0:1:1e-9", "has 1000000001 values"),
        ("t=1,,2", "has an empty value"),
        ("t=1,1", "has 1 twice"),
        ("t=.nan", "not finite"),
        ("t=log:0..1:3", "0 has no logarithm"),
        ("t=log:1..10:1", "'1' points"),
        ("t=log:1..10:x", "'x' points"),
        ("t=log:1..1:3", "one point"),
        ("t=log:1:10:3", "is no number"),
    ],
)
def test_an_axis_that_makes_no_sense_is_refused(text, problem):
    with pytest.raises(ConfigError, match=problem) as caught:
        parse_axis(text)
    assert caught.value.hint


def test_the_range_of_options_is_the_same_as_an_axis():
    assert stepped("1.0", "8.0", "0.5") == parse_axis("t=1.0:8.0:0.5").values
    assert len(stepped("1.0", "8.0", "0.5")) == 15


@pytest.mark.parametrize(
    ("text", "seeds"), [("0..4", (0, 1, 2, 3, 4)), ("3,1,4", (3, 1, 4)), ("7", (7,))]
)
def test_seeds_are_a_range_or_a_list(text, seeds):
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize("text", ["", "x", "1.5", "-1", "0,0", "5..1", "true", str(2**63)])
def test_what_is_no_seed_is_refused(text):
    with pytest.raises(ConfigError):
        parse_seeds(text)


def test_a_grid_has_every_combination():
    points = grid([Axis("a", (1, 2)), Axis("b", ("x", "y", "z"))])
    assert points[:4] == [
        {"a": 1, "b": "x"}, {"a": 1, "b": "y"}, {"a": 1, "b": "z"}, {"a": 2, "b": "x"}
    ]  # fmt: skip
    assert len(points) == 6


def test_whole_numbers_between_two_are_points_and_others_are_not():
    assert [p["n"] for p in grid([parse_axis("n=2..5")])] == [2, 3, 4, 5]
    with pytest.raises(ConfigError, match="t has no points") as caught:
        grid([parse_axis("t=1.0..2.0")])
    assert "give a step" in caught.value.hint


@pytest.mark.parametrize(
    ("axes", "problem"),
    [
        ([], "no axis"),
        ([Axis("a", (1,)), Axis("a", (2,))], "the axis a is there twice"),
        ([Axis(name, tuple(range(100))) for name in "abc"], "1000000 points"),
    ],
)
def test_a_grid_that_makes_no_sense_is_refused(axes, problem):
    with pytest.raises(ConfigError, match=problem):
        grid(axes)


AXES = [parse_axis("lr=log:1e-5..1e-3"), parse_axis("t=1.0..8.0"), parse_axis("rank=4..7"),
        parse_axis("kind=a,b")]  # fmt: skip


def test_random_points_are_a_function_of_the_seed_and_begin_alike():
    points = random_points(AXES, 20, seed=3)
    assert points == random_points(AXES, 20, seed=3)
    assert points[:5] == random_points(AXES, 5, seed=3)
    assert points != random_points(AXES, 20, seed=4)


def test_random_points_fill_every_span():
    points = random_points(AXES, 400, seed=0)
    assert {p["rank"] for p in points} == {4, 5, 6, 7}
    assert {p["kind"] for p in points} == {"a", "b"}
    assert all(1e-5 <= p["lr"] <= 1e-3 and 1 <= p["t"] <= 8 for p in points)
    below = sum(p["lr"] < 1e-4 for p in points)  # half of the logarithms
    assert below == pytest.approx(200, abs=4 * math.sqrt(400 / 4))
    assert sum(p["t"] for p in points) / 400 == pytest.approx(4.5, abs=4 * 7 / math.sqrt(12 * 400))


def test_more_random_points_than_there_are_is_refused():
    axes = [parse_axis("a=1,2"), parse_axis("b=1,2")]
    assert sorted(map(str, random_points(axes, 4, seed=0))) == sorted(map(str, grid(axes)))
    with pytest.raises(ConfigError, match="4 different points, and 5 were asked for"):
        random_points(axes, 5, seed=0)


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("temperature", "distillation.temperature"),
        ("alpha", "distillation.alpha"),  # deeper ones are given in full
        ("distillation.alpha", "distillation.alpha"),
        ("learning_rate", "training.learning_rate"),
        ("student.lora.rank", "student.lora.rank"),
        ("teacher.0.weight", "teacher.0.weight"),
        ("control", "control"),
    ],
)
def test_a_key_is_given_in_full_or_by_its_last_part(name, key):
    assert full_key(name, DistillConfig) == key


@pytest.mark.parametrize(
    ("name", "guess"),
    [
        ("temprature", "distillation.temperature"),
        ("distillation.temprature", "distillation.temperature"),
        ("training.learningrate", "training.learning_rate"),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest(name, guess):
    with pytest.raises(ConfigError, match=f"unknown key; did you mean {guess}"):
        full_key(name, DistillConfig)


def test_a_part_of_several_keys_has_to_be_given_in_full():
    with pytest.raises(ConfigError, match=r"model_id could be teacher\.model_id or student\.model"):
        full_key("model_id", DistillConfig)


@pytest.mark.parametrize("name", ["seed", "output.dir"])
def test_what_each_run_has_of_its_own_is_no_axis(name):
    with pytest.raises(ConfigError, match="is no axis of a sweep") as caught:
        keys_of([Axis(name, (1, 2))])
    assert caught.value.hint in RESERVED.values()


def test_axes_keep_their_values():
    (axis,) = with_full_keys([Axis("alpha", (0.5, 1.0))], DistillConfig, reserved={})
    assert axis == Axis("distillation.alpha", (0.5, 1.0))
