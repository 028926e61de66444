"""Distillations as runs of a study, at toy size and for real."""

import json

import pytest

from entrenar_bench.base import Base
from entrenar_bench.runner import DistillRunner, arms_of, keys_of
from entrenar_bench.space import grid, parse_axis
from entrenar_bench.statistics import State, compare_arms
from entrenar_bench.study import Plan, Study, run_trials
from entrenar_common.errors import ConfigError


def points(*axes: str):
    return grid(keys_of([parse_axis(axis) for axis in axes]))


def test_arms_are_whole_configurations_without_seed_and_folder(config):
    first, second = arms_of(Base(config), points("temperature=2,4.5"))
    assert (first.name, second.name) == ("temperature=2", "temperature=4.5")
    assert first.config["distillation"]["temperature"] == 2
    assert first.config["training"]["max_steps"] == 3
    assert "seed" not in first.config["training"]
    assert "dir" not in first.config["output"]


def test_arms_that_no_run_could_use_are_refused_at_once(config):
    with pytest.raises(ConfigError, match=r"distillation\.alpha: must be at most 1, not 1\.5"):
        arms_of(Base(config), points("alpha=0.5,1.5"))


@pytest.mark.tier2
def test_distillations_are_run_and_compared(config, tmp_path, own_cache):
    plan = Plan(arms_of(Base(config), points("temperature=1,8")), seeds=(0, 1))
    runner = DistillRunner(str(tmp_path / "runs"))
    with Study.create(tmp_path / "a.study", plan) as study:
        outcome = run_trials(study, runner)
        assert (outcome.finished, outcome.errors) == (4, ())
        runs = study.results("loss")
        assert study.results("teacher.loss").keys() == runs.keys()
        trial = next(study.trials())
        steps = study.steps(trial.run)
    assert {arm: sorted(values) for arm, values in runs.items()} == {
        "temperature=1": [0, 1],
        "temperature=8": [0, 1],
    }
    report = json.loads((tmp_path / "runs" / trial.run / "report.json").read_text())
    student = next(score for score in report["scores"] if score["name"] == "student")
    assert runs[trial.arm][trial.seed] == student["loss"]
    assert steps
    found = compare_arms(runs).comparisons[0]
    assert found.state is State.TESTED
    assert len({value for values in runs.values() for value in values.values()}) == 4
