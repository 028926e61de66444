"""A study says how its arms came about; files that do not are opened all the same."""

import json
import sqlite3

import pytest

from entrenar_bench.study import Arm, Plan, Search, Study

SEARCH = Search(
    axes=("x=1,2",),
    sampler="grid",
    metric="loss",
    goal="lower",
    command="entrenar-bench sweep --param x=1,2",
    drawn=("one",),
    taken_out={"one": (), "two": ("x",)},
)


def plan_of(search):
    return Plan((Arm("one", {"x": 1}), Arm("two", {"x": 2})), (0, 1), space=search.as_plain())


def test_a_search_is_read_as_it_was_written(tmp_path):
    Study.create(tmp_path / "a.study", plan_of(SEARCH)).close()
    with Study.open(tmp_path / "a.study") as study:
        assert study.search == SEARCH


def test_the_criterion_is_the_best_mean(tmp_path):
    assert SEARCH.criterion == "the lowest mean of loss over seeds"
    assert Search(metric="accuracy", goal="higher").criterion.startswith("the highest mean of acc")
    assert Search(metric="loss").criterion == Search().criterion == ""


@pytest.mark.parametrize(
    "found", [None, {}, [], "x", {"axes": 3, "goal": ["lower"], "taken_out": [1], "later": True}]
)
def test_what_a_file_does_not_say_is_empty(found):
    assert Search.of(found) == Search()


@pytest.mark.parametrize("statement", ["UPDATE meta SET value = '{}'", "DELETE FROM meta"])
def test_a_study_without_a_search_opens_and_is_told_it_by_the_next_command(tmp_path, statement):
    path = tmp_path / "a.study"
    Study.create(path, plan_of(SEARCH)).close()
    with sqlite3.connect(path) as connection:
        connection.execute(f"{statement} WHERE key = 'space'")
    connection.close()
    with Study.open(path) as study:
        assert study.search == Search()
    with Study.open(path, plan_of(SEARCH)) as study:
        assert study.search == SEARCH


def test_the_criterion_of_the_runs_stays_when_they_are_looked_at_by_another(tmp_path):
    path = tmp_path / "a.study"
    Study.create(path, plan_of(SEARCH)).close()
    with Study.open(path, plan_of(Search(metric="accuracy", goal="higher"))) as study:
        assert study.search == SEARCH


def test_the_search_of_an_edited_plan_is_kept_instead(tmp_path):
    path = tmp_path / "a.study"
    Study.create(path, plan_of(SEARCH)).close()
    wider = Search(axes=("x=1,2,3",), sampler="grid")
    more = Plan((*plan_of(wider).arms, Arm("three", {"x": 3})), (0, 1), space=wider.as_plain())
    with Study.open(path, more, edited="allow") as study:
        assert study.search == wider


def test_the_mirror_has_the_search(tmp_path):
    Study.create(tmp_path / "a.study", plan_of(SEARCH)).close()
    first = json.loads((tmp_path / "a.study.jsonl").read_text().splitlines()[0])
    assert first["plan"]["space"]["axes"] == ["x=1,2"]
