"""Plans that grow: arms that are added behind the others, and rungs that arms go on to."""

import pytest

from entrenar_bench.study import Arm, Asked, Plan, Status, Study, read_mirror
from entrenar_common.errors import ConfigError, RefusedError

FIRST, SECOND, THIRD = (Arm(f"x={x}", {"x": x}) for x in (1, 2, 3))
PLAN = Plan((FIRST,), (0, 1), rule={"sampler": "any"})
GROWN = Plan((FIRST, SECOND), (0, 1), rule=PLAN.rule)
RUNGS = Plan((FIRST, SECOND, THIRD), (0, 1, 2, 3), rule={"halving": 2}, open_seeds=1)


@pytest.fixture
def make(tmp_path, clock):
    opened = []

    def open_or_create(plan, **how):
        path = tmp_path / "a.study"
        study = (
            Study.open(path, plan, clock=clock, **how)
            if path.exists()
            else Study.create(path, plan, clock=clock)
        )
        opened.append(study)
        return study

    yield open_or_create
    for study in opened:
        study.close()


def planned(study, *, status=Status.WAITING):
    return [(t.arm, t.seed) for t in study.trials() if t.status is status]


def finish_all(study) -> list[tuple[str, int]]:
    done = []
    while lease := study.claim("w"):
        study.finish(lease, {"loss": 1.0})
        done.append((lease.trial.arm, lease.trial.seed))
    return done


# ---- arms that are added -----------------------------------------------------------------------


def test_an_added_arm_comes_behind_the_others_with_every_seed(make):
    study = make(PLAN)
    study.extend(GROWN, Asked(("p",)))
    assert planned(study) == [("x=1", 0), ("x=1", 1), ("x=2", 0), ("x=2", 1)]
    assert study.asked == Asked(("p",))


def test_the_plan_that_a_study_began_with_opens_it_when_it_has_grown(make):
    make(PLAN).extend(GROWN, Asked(("p",), (0.5,)))
    again = make(PLAN)
    assert again.asked == Asked(("p",), (0.5,))
    assert len(planned(again)) == 4


def test_a_driver_that_asks_for_the_same_points_changes_nothing(make):
    study, other = make(PLAN), make(PLAN)
    study.extend(GROWN, Asked(("p",)))
    before = len(read_mirror(study.path.with_name("a.study.jsonl")))
    other.extend(GROWN, Asked(("p",)))
    assert len(planned(other)) == 4
    assert len(read_mirror(study.path.with_name("a.study.jsonl"))) == before


def test_a_driver_that_is_behind_takes_nothing_from_the_one_before(make):
    study, other = make(PLAN), make(PLAN)
    third = Plan((FIRST, SECOND, THIRD), (0, 1), rule=PLAN.rule)
    study.extend(third, Asked(("p", "q"), (1.0,)))
    other.extend(GROWN, Asked(("p",)))
    assert other.asked == Asked(("p", "q"), (1.0,))
    assert len(planned(other)) == 6


@pytest.mark.parametrize(
    "points", [Asked(("other",)), Asked(("p",), (2.0,)), Asked(("p", "other"), (1.0,))]
)
def test_points_that_differ_from_the_recorded_ones_are_refused(make, points):
    study = make(PLAN)
    third = Plan((FIRST, SECOND, THIRD), (0, 1), rule=PLAN.rule)
    study.extend(third, Asked(("p", "q"), (1.0,)))
    with pytest.raises(RefusedError, match="not the one that the study has"):
        study.extend(GROWN, points)
    assert study.asked == Asked(("p", "q"), (1.0,))
    assert len(planned(study)) == 6


def test_other_points_that_are_allowed_keep_what_was_done_and_drop_what_waits(make):
    study = make(PLAN)
    finish_all(study)
    study.extend(GROWN, Asked(("p",)))
    study.claim("w")
    edited = make(PLAN, edited="allow")
    edited.extend(Plan((FIRST, THIRD), (0, 1), rule=PLAN.rule), Asked(("q",)))
    assert edited.asked == Asked(("q",))
    assert planned(edited) == [("x=3", 0), ("x=3", 1)]
    assert planned(edited, status=Status.DROPPED) == [("x=2", 1)]
    assert "point 1 is not the one" in edited.notes[-1]


def test_a_plan_with_the_same_run_twice_adds_nothing(make):
    study = make(PLAN)
    twin = Plan((FIRST, Arm("twin", FIRST.config)), (0, 1), rule=PLAN.rule)
    with pytest.raises(ConfigError, match="same configuration"):
        study.extend(twin, Asked(("p",)))
    assert study.asked == Asked()


# ---- rungs -------------------------------------------------------------------------------------


def test_only_the_first_seeds_are_run_before_a_rung_is_decided(make):
    study = make(RUNGS)
    assert {seed for _, seed in finish_all(study)} == {0}
    assert len(planned(study, status=Status.HELD)) == 9


def test_a_decision_lets_the_chosen_go_on_and_prunes_the_others_for_good(make):
    study = make(RUNGS)
    finish_all(study)
    assert study.advance(0, arms=["x=1", "x=2"], seeds=[1])
    assert sorted(finish_all(study)) == [("x=1", 1), ("x=2", 1)]
    assert study.advance(1, arms=["x=2"], seeds=[2, 3])
    assert sorted(finish_all(make(RUNGS))) == [("x=2", 2), ("x=2", 3)]
    pruned = planned(study, status=Status.PRUNED)
    assert sorted(pruned) == [("x=1", 2), ("x=1", 3), ("x=3", 1), ("x=3", 2), ("x=3", 3)]
    kinds = [e["kind"] for e in read_mirror(study.path.with_name("a.study.jsonl"))]
    assert kinds.count("advanced") == 2


def test_a_driver_that_decides_late_changes_nothing(make):
    study, other = make(RUNGS), make(RUNGS)
    finish_all(study)
    assert study.advance(0, arms=["x=1"], seeds=[1])
    assert not other.advance(0, arms=["x=3"], seeds=[1])
    assert planned(study) == [("x=1", 1)]


def test_nothing_is_decided_while_a_run_of_the_rung_is_under_way(make):
    study = make(RUNGS)
    lease = study.claim("w")
    assert not study.advance(0, arms=["x=1"], seeds=[1])
    finish_all(study)
    assert not study.advance(0, arms=["x=1"], seeds=[1])
    study.fail(lease, "broken")
    assert study.advance(0, arms=["x=1"], seeds=[1])


# ---- rules -------------------------------------------------------------------------------------


def test_another_rule_is_taken_while_nothing_was_decided_and_refused_after_that(make):
    finish_all(make(RUNGS))
    other = Plan(RUNGS.arms, RUNGS.seeds, rule={"halving": 4}, open_seeds=2)
    study = make(other)
    assert {seed for _, seed in finish_all(study)} == {1}
    study.advance(0, arms=["x=1"], seeds=[2])
    with pytest.raises(RefusedError, match="another rule"):
        make(RUNGS)


def test_a_study_without_rungs_lets_pruned_arms_go_on_where_that_is_allowed(make):
    study = make(RUNGS)
    finish_all(study)
    study.advance(0, arms=["x=1"], seeds=[1])
    whole = Plan(RUNGS.arms, RUNGS.seeds)
    with pytest.raises(RefusedError, match="another rule"):
        make(whole)
    assert len(planned(make(whole, edited="allow"))) == 9


def test_a_plan_without_a_rule_has_the_name_that_it_always_had():
    plain = Plan((FIRST,), (0, 1))
    assert plain.digest == Plan((FIRST,), (0, 1), name="other", space={"a": 1}).digest
    assert plain.digest != PLAN.digest
