"""What a report says is what is in the files of its studies."""

import math
from dataclasses import replace

import pytest

from entrenar_bench.report.asking import command_line, metrics_asked
from entrenar_bench.report.gathered import Asked, gathered, is_reading
from entrenar_bench.study import Arm, Plan, Search, Status, Study
from entrenar_common.errors import ConfigError, NotFoundError, UsageError

LOSS = Asked({"loss": "lower"})


def run_all(study, clock, *, failing=(), metrics=None):
    """Finish every run that waits; its loss is x + seed / 10 and it takes two seconds."""
    while lease := study.claim("a worker"):
        trial = lease.trial
        value = trial.config["x"] + trial.seed / 10
        for step in (1, 2):
            study.report(lease, step, {"loss": value + 2 - step, "rate": 0.1})
        clock.now += 2.0
        if (trial.arm, trial.seed) in failing:
            study.fail(lease, "it broke")
        else:
            study.finish(lease, metrics or {"loss": value, "peak_bytes": 1000.0})


def test_runs_metrics_and_curves_are_those_of_the_study(study, clock):
    run_all(study, clock)
    found = gathered([study], LOSS)
    assert [arm.name for arm in found.arms] == ["one", "two"]
    assert list(found.seeds) == [0, 1, 2]
    for run in found.runs:
        value = (1 if run.arm == "one" else 2) + run.seed / 10
        assert run.metrics == {"loss": value}
        assert list(run.curve) == [(step, value + 2 - step) for step in (1, 2)]
        assert run.readings == {"seconds": 2.0, "peak_bytes": 1000.0}
    assert sorted(run.place for run in found.runs) == [1, 2, 3, 4, 5, 6]


def test_failed_runs_are_kept_with_their_error_and_others_are_unfinished(study, clock):
    lease = study.claim("a worker")
    study.fail(lease, "it broke")
    lease = study.claim("a worker")
    study.finish(lease, {"loss": 1.0})
    found = gathered([study], LOSS)
    states = sorted(run.state for run in found.runs)
    assert states == ["done", "failed", *["unfinished"] * 4]
    assert [run.failure for run in found.runs if run.state == "failed"] == ["it broke"]


def test_the_comparison_is_over_the_seeds_that_both_arms_finished(study, clock):
    run_all(study, clock, failing=[("two", 1)])
    (family,) = gathered([study], LOSS).comparisons
    (compared,) = family.comparisons
    assert compared.runs == (2, 2)
    assert compared.estimate == pytest.approx(-1.0)


def test_an_arm_without_any_result_is_compared_as_one_with_too_few_runs(study, clock):
    run_all(study, clock, failing=[("two", seed) for seed in range(3)])
    found = gathered([study], LOSS)
    (compared,) = found.comparisons[0].comparisons
    assert compared.runs == (0, 0)
    assert math.isnan(compared.p)


def test_settings_are_named_by_their_path(tmp_path, clock):
    arms = tuple(Arm(f"t{t}", {"kd": {"t": t, "layers": [1, 2]}, "x": 1}) for t in (1, 2))
    with Study.create(tmp_path / "s", Plan(arms, (0,)), clock=clock) as study:
        run_all(study, clock)
        found = gathered([study], LOSS)
    assert found.arms[0].config == {"kd.t": 1, "kd.layers": [1, 2], "x": 1}
    assert [(p.name, p.bounds) for p in found.space] == [("kd.t", "1, 2")]


def test_numbers_in_names_of_arms_order_them(tmp_path, clock):
    arms = tuple(Arm(f"arm-{x}", {"x": x}) for x in (10, 9, 100))
    with Study.create(tmp_path / "s", Plan(arms, (0,)), clock=clock) as study:
        run_all(study, clock)
        assert [a.name for a in gathered([study], LOSS).arms] == ["arm-9", "arm-10", "arm-100"]


def test_studies_of_other_seeds_are_one_study(tmp_path, plan, clock):
    more = Plan(plan.arms, (3, 4))
    with (
        Study.create(tmp_path / "a", plan, clock=clock) as one,
        Study.create(tmp_path / "b", more, clock=clock) as other,
    ):
        run_all(one, clock)
        run_all(other, clock)
        found = gathered([one, other], LOSS)
    assert list(found.seeds) == [0, 1, 2, 3, 4]
    assert found.comparisons[0].comparisons[0].runs == (5, 5)


def test_a_run_in_two_files_is_refused(tmp_path, plan, clock):
    with (
        Study.create(tmp_path / "a", plan, clock=clock) as one,
        Study.create(tmp_path / "b", plan, clock=clock) as other,
    ):
        run_all(one, clock)
        with pytest.raises(ConfigError, match="both have the arm one with seed 0"):
            gathered([one, other], LOSS)


def test_one_name_for_two_configurations_is_refused(tmp_path, plan, clock):
    changed = Plan((Arm("one", {"x": 5}),), (7,))
    with (
        Study.create(tmp_path / "a", plan, clock=clock) as one,
        Study.create(tmp_path / "b", changed, clock=clock) as other,
    ):
        run_all(one, clock)
        with pytest.raises(ConfigError, match="another configuration"):
            gathered([one, other], LOSS)


def test_runs_that_were_dropped_from_the_plan_are_noted_and_not_counted(tmp_path, plan, clock):
    Study.create(tmp_path / "a", plan, clock=clock).close()
    fewer = Plan(plan.arms, (0, 1))
    with Study.open(tmp_path / "a", fewer, edited="allow", clock=clock) as study:
        run_all(study, clock)
        assert study.counts()[Status.DROPPED] == 2
        found = gathered([study], LOSS)
    assert len(found.runs) == 4
    assert found.notes[0].startswith("2 runs were planned once and dropped")


def test_a_metric_that_no_run_has_is_refused_with_the_nearest(study, clock):
    run_all(study, clock)
    with pytest.raises(NotFoundError, match="los") as caught:
        gathered([study], Asked({"los": "lower"}))
    assert "loss" in caught.value.hint


@pytest.mark.parametrize("name", ["seconds", "peak_bytes", "tokens_per_second", "teacher.seconds"])
def test_what_a_machine_took_is_no_result(name):
    assert is_reading(name)


@pytest.mark.parametrize("name", ["loss", "accuracy", "bytes_per_token", "bits_per_byte"])
def test_what_a_model_is_worth_is_a_result(name):
    assert not is_reading(name)


def test_the_only_metric_decides_if_none_is_named():
    assert metrics_asked([], ["loss", "seconds"]) == {"loss": "lower"}


def test_which_of_several_metrics_decides_has_to_be_said():
    with pytest.raises(UsageError, match="accuracy, kl"):
        metrics_asked([], ["accuracy", "kl"])


def test_the_loss_decides_if_no_metric_is_named():
    assert metrics_asked([], ["accuracy", "loss"]) == {"loss": "lower"}


@pytest.mark.parametrize("text", ["loss:lowest", ":lower", "loss:"])
def test_a_goal_is_lower_or_higher(text):
    with pytest.raises(UsageError):
        metrics_asked([text], ["loss"])


def test_the_command_line_of_a_report_is_quoted_and_names_no_folder():
    line = command_line(
        ["/home/someone/a b.study"], {"loss": "lower"}, "latex", baseline="x; rm", design="paired",
        correction="holm", alpha=0.05, margin=None,
    )  # fmt: skip
    assert "someone" not in line
    assert "'a b.study'" in line
    assert "'x; rm'" in line


SEARCH = Search(("x=1,2",), "grid", "loss", "lower", "entrenar-bench sweep --param x=1,2")


def searched(tmp_path, plan, clock, search):
    return Study.create(tmp_path / "s.study", replace(plan, space=search.as_plain()), clock=clock)


def test_what_was_searched_how_and_by_which_command_is_that_of_the_study(tmp_path, plan, clock):
    with searched(tmp_path, plan, clock, SEARCH) as study:
        run_all(study, clock)
        found = gathered([study], LOSS)
    assert (found.axes, found.method) == (["x=1,2"], "grid")
    assert found.criterion == "the lowest mean of loss over seeds"
    assert found.made_by == ["entrenar-bench sweep --param x=1,2"]


def test_what_a_study_does_not_say_of_its_search_is_empty(study, clock):
    run_all(study, clock)
    found = gathered([study], LOSS)
    assert (found.axes, found.method, found.criterion, found.made_by) == ([], "", "", [])
    assert (found.energy, found.effects, found.drawn) == ("", [], [])


def test_the_effects_of_a_factorial_are_there_for_each_metric(tmp_path, plan, clock):
    lacks = {"one": ("x",), "two": ()}
    with searched(tmp_path, plan, clock, replace(SEARCH, taken_out=lacks)) as study:
        run_all(study, clock)
        found = gathered([study], Asked({"loss": "lower", "peak_bytes": "lower"}))
    assert [effects.metric for effects in found.effects] == ["loss", "peak_bytes"]
    assert found.effects[0].effects[0].estimate == pytest.approx(1.0)  # two − one


@pytest.mark.parametrize(
    ("joules", "said"),
    [(None, "not recorded: no counter"), (3.0, "of 6 of 6 runs: no counter")],
)
def test_energy_is_counted_or_it_is_said_why_not(study, clock, joules, said):
    study.note_energy("no counter")
    run_all(study, clock, metrics={"loss": 1.0} | ({"joules": joules} if joules else {}))
    found = gathered([study], LOSS)
    assert found.energy == said
    assert {run.readings.get("joules") for run in found.runs} == {joules}
