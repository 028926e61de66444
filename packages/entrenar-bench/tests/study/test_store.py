"""A study on a disk: who may work on what, what is kept, and what survives."""

import errno
import json
import math
import sqlite3
import subprocess
import sys
import time

import pytest

from entrenar_bench.study import Arm, LeaseLost, Plan, Status, Study, read_mirror
from entrenar_bench.study.database import journal_mode
from entrenar_bench.study.records import run_id, trial_id
from entrenar_common.errors import (
    ConfigError,
    FormatError,
    NotFoundError,
    RefusedError,
    StorageError,
)
from entrenar_core.io.os_calls import os_calls


def again(study, **how) -> Study:
    return Study.open(study.path, clock=study._clock, lease_seconds=60, **how)


def finish_all(study) -> list[tuple[str, int]]:
    done = []
    while lease := study.claim("w"):
        study.finish(lease, {"loss": lease.trial.config["x"] + lease.trial.seed})
        done.append((lease.trial.arm, lease.trial.seed))
    return done


# ---- plans -------------------------------------------------------------------------------------


def test_a_run_is_named_by_its_configuration_and_seed_whatever_the_order_of_keys():
    assert trial_id({"a": 1, "b": [2.5]}) == trial_id({"b": [2.5], "a": 1})
    assert len({run_id({"a": 1}, 0), run_id({"a": 1}, 1), run_id({"a": 2}, 0), trial_id({})}) == 4


@pytest.mark.parametrize(
    ("arms", "seeds", "message"),
    [
        ((), (1,), "0 arms"),
        ((Arm("a", {}),), (), "0 seeds"),
        ((Arm("a", {}),), (1, 1), "the seed 1 is there twice"),
        ((Arm("a", {}), Arm("a", {"x": 1})), (1,), "the arm a is there twice"),
        ((Arm("a", {"x": 1}), Arm("b", {"x": 1})), (1,), "a and b have the same configuration"),
        ((Arm("a", {"x": math.nan}),), (1,), "JSON cannot hold"),
    ],
)
def test_a_plan_that_makes_no_sense_is_refused_and_nothing_is_written(
    tmp_path, arms, seeds, message
):
    with pytest.raises(ConfigError, match=message):
        Study.create(tmp_path / "a.study", Plan(arms, seeds))
    assert not list(tmp_path.iterdir())


def test_runs_are_blocks_of_a_seed_with_every_arm_shuffled_in_each(tmp_path):
    arms = tuple(Arm(f"{i}", {"x": i}) for i in range(6))
    with Study.create(tmp_path / "a.study", Plan(arms, tuple(range(10)))) as study:
        trials = list(study.trials())
    blocks = [trials[i : i + 6] for i in range(0, 60, 6)]
    assert [{t.seed for t in block} for block in blocks] == [{seed} for seed in range(10)]
    orders = [tuple(t.arm for t in block) for block in blocks]
    assert {tuple(sorted(order)) for order in orders} == {tuple("012345")}
    assert len(set(orders)) > 5


def test_the_same_plan_has_the_same_order_and_another_order_seed_another(tmp_path):
    arms, seeds = tuple(Arm(f"{i}", {"x": i}) for i in range(6)), (3, 1)
    orders = []
    for i, order_seed in enumerate((0, 0, 1)):
        plan = Plan(arms, seeds, order_seed=order_seed)
        with Study.create(tmp_path / f"{i}.study", plan) as study:
            orders.append([t.run for t in study.trials()])
    assert orders[0] == orders[1] != orders[2]


# ---- working -----------------------------------------------------------------------------------


def test_every_run_is_done_once_and_its_results_are_by_arm_and_seed(study):
    assert len(finish_all(study)) == 6
    assert study.claim("w") is None
    assert study.counts()[Status.FINISHED] == 6
    assert study.results("loss") == {"one": {0: 1, 1: 2, 2: 3}, "two": {0: 2, 1: 3, 2: 4}}


def test_finished_runs_are_not_repeated_after_opening_again(study):
    lease = study.claim("w")
    study.finish(lease, {"loss": 1.0})
    with again(study) as other:
        rest = finish_all(other)
    assert len(rest) == 5
    assert (lease.trial.arm, lease.trial.seed) not in rest


def test_two_drivers_get_different_runs(study):
    with again(study) as other:
        ours, theirs = study.claim("a"), other.claim("b")
    assert ours.trial.run != theirs.trial.run
    assert ours.token < theirs.token


def test_a_lease_that_is_renewed_is_kept(study, clock):
    lease = study.claim("a")
    clock.now += 50
    lease = study.heartbeat(lease)
    clock.now += 50
    assert study.claim("b").trial.run != lease.trial.run
    study.finish(lease, {"loss": 1.0})


def test_a_run_whose_lease_expired_is_given_to_another(study, clock):
    late = study.claim("a")
    clock.now += 61
    taken = study.claim("b")
    assert taken.trial.run == late.trial.run
    assert taken.token > late.token


@pytest.mark.parametrize(
    "report",
    [
        lambda study, lease: study.finish(lease, {"loss": 0.0}),
        lambda study, lease: study.fail(lease, "broken"),
        lambda study, lease: study.heartbeat(lease),
        lambda study, lease: study.report(lease, 1, {"loss": 0.0}),
        lambda study, lease: study.give_back(lease),
    ],
    ids=["finish", "fail", "heartbeat", "report", "give_back"],
)
@pytest.mark.parametrize("done", [False, True])
def test_a_late_report_is_rejected_and_logged(study, clock, report, done):
    late = study.claim("a")
    clock.now += 61
    taken = study.claim("b")
    if done:
        study.finish(taken, {"loss": 7.0})
    with pytest.raises(LeaseLost, match=f"by a came too late: its lease {late.token} has ended"):
        report(study, late)
    if not done:
        study.finish(taken, {"loss": 7.0})
    assert study.results("loss")[taken.trial.arm] == {taken.trial.seed: 7.0}
    event = [e for e in read_mirror(f"{study.path}.jsonl") if e["kind"] == "late"]
    assert [(e["run"], e["token"], e["worker"]) for e in event] == [
        (late.trial.run, late.token, "a")
    ]


def test_a_report_after_the_deadline_counts_while_nobody_has_taken_the_run(study, clock):
    lease = study.claim("a")
    clock.now += 1000
    study.finish(lease, {"loss": 1.0})
    assert study.counts()[Status.FINISHED] == 1


def test_a_run_that_finished_cannot_finish_again(study):
    lease = study.claim("a")
    study.finish(lease, {"loss": 1.0})
    with pytest.raises(LeaseLost):
        study.finish(lease, {"loss": 2.0})


def test_a_run_that_always_loses_its_worker_fails(study, clock):
    for _ in range(3):
        lease = study.claim("a")
        assert lease.trial.position == 0
        clock.now += 61
    assert study.claim("a").trial.position == 1
    first = next(study.trials())
    assert first.status is Status.FAILED
    assert "vanished 3 times" in first.error


def test_a_failed_run_is_not_repeated_before_it_is_asked_for(study):
    study.fail(study.claim("a"), "ValueError: x")
    assert len(finish_all(study)) == 5
    assert study.retry_failed() == 1
    assert len(finish_all(study)) == 1


def test_a_run_that_is_given_back_waits_again(study):
    lease = study.claim("a")
    study.give_back(lease)
    assert study.claim("b").trial.run == lease.trial.run


def test_steps_are_those_of_the_newest_attempt(study):
    first = study.claim("a")
    study.report(first, 1, {"loss": 9.0})
    study.give_back(first)
    second = study.claim("b")
    study.report(second, 1, {"loss": 5.0})
    study.report(second, 2, {"loss": math.nan, "accuracy": 0.5})
    steps = study.steps(first.trial.run)
    assert steps[0] == (1, "loss", 5.0)
    assert [(step, name) for step, name, _ in steps[1:]] == [(2, "accuracy"), (2, "loss")]
    assert math.isnan(steps[2][2])


def test_a_result_that_is_not_finite_is_kept_as_such(study):
    for value in (math.nan, math.inf):
        study.finish(study.claim("a"), {"loss": value})
    kept = [v for runs in study.results("loss").values() for v in runs.values()]
    assert sorted(map(str, kept)) == ["inf", "nan"]


def test_a_run_without_metrics_and_a_metric_that_no_run_has_are_refused(study):
    with pytest.raises(ConfigError, match="without metrics"):
        study.finish(study.claim("a"), {})
    study.finish(study.claim("a"), {"loss": 1.0})
    with pytest.raises(NotFoundError, match="los") as caught:
        study.results("los")
    assert "loss" in caught.value.hint


# ---- the study stops ---------------------------------------------------------------------------


def test_the_same_error_in_the_first_three_runs_stops_the_study(study):
    for i in range(3):
        study.fail(study.claim("a"), f"FormatError: file run-{i}a1 has {i} rows")
    assert study.claim("a") is None
    assert study.stopped == (
        "the first 3 runs failed with the same error: FormatError: file run-0a1 has 0 rows"
    )
    assert study.counts()[Status.WAITING] == 3


@pytest.mark.parametrize(
    "errors", [["a", "b", "a"], ["a", None, "a", "a"], [None, "a", "a", "a"]], ids=str
)
def test_the_study_goes_on_when_runs_fail_differently_or_one_works(study, errors):
    for error in errors:
        lease = study.claim("w")
        if error is None:
            study.finish(lease, {"loss": 1.0})
        else:
            study.fail(lease, error)
    assert study.stopped is None
    assert study.claim("w") is not None


def test_a_stopped_study_goes_on_when_failed_runs_are_tried_again(study):
    for _ in range(3):
        study.fail(study.claim("a"), "same")
    assert study.retry_failed() == 3
    assert study.stopped is None
    study.fail(study.claim("a"), "same")
    assert len(finish_all(study)) == 5


# ---- edited plans ------------------------------------------------------------------------------


def edited(plan: Plan) -> Plan:
    """Without the arm "one", with a new arm and another seed."""
    return Plan(arms=(plan.arms[1], Arm("three", {"x": 3})), seeds=(*plan.seeds, 3))


def test_the_same_plan_opens_whatever_it_calls_its_arms(study, plan):
    renamed = Plan((Arm("b", {"x": 2}), Arm("a", {"x": 1})), (2, 0, 1))
    with again(study, plan=renamed) as other:
        assert not [note for note in other.notes if "edited" in note]


def test_an_edited_plan_is_refused_and_changes_nothing(study, plan):
    with pytest.raises(RefusedError, match="5 runs are new, 3 are gone, 3 are the same") as caught:
        again(study, plan=edited(plan))
    assert "allow" in caught.value.hint
    assert len(finish_all(study)) == 6


def test_an_edited_plan_that_is_allowed_keeps_what_is_the_same(study, plan):
    lease = study.claim("w")
    study.finish(lease, {"loss": 1.0})
    with again(study, plan=edited(plan), edited="allow") as other:
        assert "5 runs are new" in other.notes[0]
        done = finish_all(other)
        counts = other.counts()
    assert ("one", 0) not in done
    assert len(done) == 8 - (lease.trial.arm == "two")
    assert counts[Status.DROPPED] == 3 - (lease.trial.arm == "one")


def test_a_run_that_was_dropped_comes_back_with_its_plan(study, plan):
    again(study, plan=edited(plan), edited="allow").close()
    with again(study, plan=plan, edited="allow") as other:
        assert sorted(finish_all(other)) == [(a, s) for a in ("one", "two") for s in (0, 1, 2)]


# ---- files -------------------------------------------------------------------------------------


def test_a_second_study_in_one_file_is_refused(study, plan):
    with pytest.raises(RefusedError, match="holds a study already"):
        Study.create(study.path, plan)


def test_what_is_no_study_is_said_to_be_none(tmp_path):
    with pytest.raises(NotFoundError):
        Study.open(tmp_path / "none.study")
    (tmp_path / "text.study").write_text("this is no database at all" * 100)
    with pytest.raises(FormatError, match="is no study"):
        Study.open(tmp_path / "text.study")
    sqlite3.connect(tmp_path / "other.study").close()
    with pytest.raises(FormatError, match="version 0, not 1"):
        Study.open(tmp_path / "other.study")


def test_a_study_whose_creation_was_cut_off_can_be_created(tmp_path, plan):
    from entrenar_bench.study.database import connect

    connect(tmp_path / "a.study", create=True).close()
    with pytest.raises(FormatError, match="cut off"):
        Study.open(tmp_path / "a.study")
    with Study.create(tmp_path / "a.study", plan) as study:
        assert len(finish_all(study)) == 6


def test_the_journal_is_a_log_on_local_disks_only(tmp_path, monkeypatch):
    from entrenar_bench.study import database

    for kind, mode in (("ext4", "WAL"), ("nfs4", "DELETE"), ("", "DELETE")):
        monkeypatch.setattr(database, "_filesystem", lambda _path, kind=kind: kind)
        assert journal_mode(tmp_path) == mode
        connection = database.connect(tmp_path / f"{kind}.study", create=True)
        assert connection.execute("PRAGMA journal_mode").fetchone()[0].upper() == mode
        assert connection.execute("PRAGMA synchronous").fetchone()[0] == 2  # FULL
        connection.close()


def test_a_full_disk_is_an_error_and_loses_nothing(study):
    lease = study.claim("a")
    pages = study._connection.execute("PRAGMA page_count").fetchone()[0]
    study._connection.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StorageError, match="SQLITE_FULL") as caught:
        for step in range(10_000):
            study.report(lease, step, {f"metric {i}": 1.0 for i in range(50)})
    assert "free some space" in caught.value.hint
    study._connection.execute("PRAGMA max_page_count = 1000000")
    study.finish(lease, {"loss": 1.0})
    kept = {step for step, *_ in study.steps(lease.trial.run)}
    assert kept == set(range(len(kept)))  # those before the error, each whole
    assert study.counts()[Status.FINISHED] == 1


def test_ten_thousand_runs_open_and_are_claimed_within_a_second(tmp_path):
    arms = tuple(Arm(f"{i}", {"x": i}) for i in range(1000))
    Study.create(tmp_path / "a.study", Plan(arms, tuple(range(10)))).close()
    started = time.perf_counter()
    with Study.open(tmp_path / "a.study") as study:
        study.finish(study.claim("a"), {"loss": 1.0})
        assert sum(study.counts().values()) == 10_000
    assert time.perf_counter() - started < 1


def test_where_a_study_was_made_is_kept_and_a_change_is_noted(study):
    assert study.provenance.version == "0.1.0"
    assert study.provenance.machine["numpy"]
    changed = json.dumps({"version": "0.0.9", "machine": {"cpu": "abacus"}, "revision": None})
    study._connection.execute("UPDATE meta SET value = ? WHERE key = 'provenance'", [changed])
    with again(study) as other:
        assert "entrenar-bench is 0.1.0, and was 0.0.9" in other.notes


def test_steps_reported_together_are_kept_as_one_by_one(tmp_path, plan, clock):
    steps = [(1, {"loss": 2.0, "rate": 0.1}), (2, {"loss": 1.5}), (4, {"loss": math.nan})]
    kept = []
    for name, together in (("one.study", False), ("all.study", True)):
        with Study.create(tmp_path / name, plan, clock=clock) as study:
            lease = study.claim("me")
            if together:
                study.report_steps(lease, steps)
            else:
                for step, metrics in steps:
                    study.report(lease, step, metrics)
            kept.append((str(study.steps(lease.trial.run)), read_mirror(f"{study.path}.jsonl")))
    assert kept[0][0] == kept[1][0]
    assert kept[0][1][1:] == kept[1][1][1:]  # after the one of the study's creation


def test_of_steps_reported_together_all_are_kept_or_none(study):
    lease = study.claim("me")
    with pytest.raises(ValueError, match="could not convert"):
        study.report_steps(lease, [(1, {"loss": 2.0}), (2, {"loss": "much"})])
    assert study.steps(lease.trial.run) == []
    assert [event["kind"] for event in read_mirror(f"{study.path}.jsonl")][-1] != "step"


# ---- the mirror --------------------------------------------------------------------------------


def test_the_mirror_tells_what_happened_in_order(study):
    lease = study.claim("w")
    study.report(lease, 3, {"loss": math.nan})
    study.finish(lease, {"loss": 0.5})
    events = read_mirror(f"{study.path}.jsonl")
    assert [e["kind"] for e in events] == ["created", "claimed", "step", "finished"]
    assert [e["id"] for e in events] == [1, 2, 3, 4]
    assert events[0]["plan"]["seeds"] == [0, 1, 2]
    assert events[2]["metrics"] == {"loss": None}
    assert events[3]["run"] == lease.trial.run


def test_a_torn_last_line_is_dropped_with_a_note_and_written_again(study):
    study.finish(study.claim("w"), {"loss": 0.5})
    mirror = study.path.with_name("a.study.jsonl")
    whole = mirror.read_bytes()
    mirror.write_bytes(whole[:-20])
    assert len(read_mirror(mirror)) == 2
    with again(study) as other:
        assert "the last line was cut off" in other.notes[0]
    assert mirror.read_bytes() == whole


@pytest.mark.parametrize("left", [0, 1, 2])
def test_what_a_crash_left_out_of_the_mirror_is_appended(study, left):
    """The events are committed, and the process dies before it writes them to the mirror."""
    study.finish(study.claim("w"), {"loss": 0.5})
    mirror = study.path.with_name("a.study.jsonl")
    whole = mirror.read_bytes()
    lines = whole.splitlines(keepends=True)
    mirror.write_bytes(b"".join(lines[:left]))
    study._connection.execute("UPDATE meta SET value = ? WHERE key = 'mirrored'", [str(left)])
    again(study).close()
    assert mirror.read_bytes() == whole


def test_a_mirror_that_cannot_be_written_loses_no_report(study, monkeypatch):
    def full(_fd: int, _data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os_calls, "write", full)
        study.finish(study.claim("w"), {"loss": 0.5})
    assert study.counts()[Status.FINISHED] == 1
    assert len(study.notes) == 1
    assert "ENOSPC" in study.notes[0]
    again(study).close()
    kinds = [e["kind"] for e in read_mirror(f"{study.path}.jsonl")]
    assert kinds == ["created", "claimed", "finished"]


def test_a_mirror_that_was_removed_is_written_again(study):
    mirror = study.path.with_name("a.study.jsonl")
    whole = mirror.read_bytes()
    mirror.unlink()
    again(study).close()
    assert mirror.read_bytes() == whole


def test_a_damaged_line_in_the_mirror_is_an_error_that_names_it(study):
    study.claim("w")
    mirror = study.path.with_name("a.study.jsonl")
    mirror.write_bytes(b"{}\n" + mirror.read_bytes())
    with pytest.raises(FormatError, match=r"a\.study\.jsonl:1: is no event"):
        read_mirror(mirror)


# ---- killed processes --------------------------------------------------------------------------

CLAIM_AND_WAIT = """
import sys, time
from entrenar_bench.study import Study
study = Study.open(sys.argv[1], lease_seconds=60)
lease = study.claim("doomed")
study.report(lease, 1, {"loss": 3.0})
print(lease.trial.run, lease.token, flush=True)
time.sleep(600)
"""


@pytest.mark.tier2
def test_a_killed_worker_blocks_nobody_and_its_run_is_done_by_another(tmp_path, plan):
    from entrenar_common.testing import Clock

    Study.create(tmp_path / "a.study", plan).close()
    process = subprocess.Popen(
        [sys.executable, "-c", CLAIM_AND_WAIT, tmp_path / "a.study"], stdout=subprocess.PIPE
    )
    run = process.stdout.readline().split()[0].decode()
    process.kill()
    process.wait()
    process.stdout.close()
    clock = Clock(time.time())
    with Study.open(tmp_path / "a.study", clock=clock, lease_seconds=60) as study:
        assert study.claim("b").trial.run != run
        clock.now += 61
        assert study.claim("b").trial.run == run
        assert study.steps(run) == [(1, "loss", 3.0)]
        assert study.attempts()[0].outcome == "lost"
