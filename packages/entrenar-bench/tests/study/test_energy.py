"""Energy is what the packages of a processor count, in a folder that looks like the kernel's."""

import os
import threading

import pytest

from entrenar_bench.study import (
    Arm,
    Attempt,
    Lease,
    Plan,
    Status,
    Study,
    Trial,
    run_trials,
)
from entrenar_bench.study.energy import COUNTED, SHARED, Counter, Meter, counters, was_alone
from study_runners import burning, quick

LIMIT = 262_143_328_850


def zone(folder, place, *, name="package-0", microjoules=0, limit=LIMIT):
    made = folder / place
    made.mkdir(parents=True)
    (made / "name").write_text(f"{name}\n")
    (made / "max_energy_range_uj").write_text(f"{limit}\n")
    (made / "energy_uj").write_text(f"{microjoules}\n")
    return made / "energy_uj"


def looked(meter):
    """Wait until a meter's thread has looked once more."""
    seen = threading.Event()
    look = meter._look
    meter._look = lambda: (look(), seen.set())
    assert seen.wait(10)


def test_packages_count_and_what_is_in_them_or_has_them_does_not(tmp_path):
    expected = [zone(tmp_path, f"intel-rapl:{i}", name=f"package-{i}") for i in range(2)]
    zone(tmp_path, "intel-rapl:2", name="psys")
    zone(tmp_path, "intel-rapl:0:0", name="core")
    zone(tmp_path, "intel-rapl-mmio:0")
    found, why = counters(tmp_path)
    assert [counter.file for counter in found] == expected
    assert [counter.range for counter in found] == [LIMIT, LIMIT]
    assert why == ""


def test_a_machine_without_counters_says_so(tmp_path):
    assert counters(tmp_path / "none") == ((), f"this machine shows no counter in {tmp_path}/none")


def test_counters_that_are_root_s_say_so(tmp_path, monkeypatch):
    def denied(_counter):
        raise PermissionError

    zone(tmp_path, "intel-rapl:0")
    monkeypatch.setattr(Counter, "read", denied)
    assert counters(tmp_path)[1] == f"{tmp_path}/intel-rapl:0/energy_uj may be read by root alone"


def test_a_counter_that_is_no_number_says_so(tmp_path):
    zone(tmp_path, "intel-rapl:0").write_text("")
    assert "intel-rapl:0 cannot be read" in counters(tmp_path)[1]


def test_a_meter_adds_up_what_all_packages_counted(tmp_path):
    first = zone(tmp_path, "intel-rapl:0", microjoules=5_000_000)
    second = zone(tmp_path, "intel-rapl:1", microjoules=7)
    meter = Meter(counters(tmp_path)[0])
    first.write_text("8500000\n")
    second.write_text("250007\n")
    assert meter.stop() == pytest.approx(3.75)


def test_a_counter_that_starts_again_goes_on_counting(tmp_path):
    file = zone(tmp_path, "intel-rapl:0", microjoules=900, limit=1000)
    meter = Meter(counters(tmp_path)[0], seconds=0.001)
    for value in (100, 700, 50):  # 200 + 600 + 350 microjoules
        (tmp_path / "new").write_text(f"{value}\n")
        os.replace(tmp_path / "new", file)  # so that nothing is read of half a number
        looked(meter)
    assert meter.stop() == pytest.approx(1150e-6)


def test_a_counter_that_cannot_be_read_meanwhile_gives_no_figure(tmp_path):
    file = zone(tmp_path, "intel-rapl:0")
    meter = Meter(counters(tmp_path)[0])
    file.unlink()
    assert meter.stop() is None


def burnt(tmp_path, *, jobs=1, before=lambda _study: None):
    """A study whose runs use (seed + 1) · 2 joules each, and what it has of these."""
    file = zone(tmp_path / "powercap", "intel-rapl:0", microjoules=LIMIT - 1_000_000)
    arms = (Arm("one", {"counter": str(file), "limit": LIMIT}),)
    with Study.create(tmp_path / "a.study", Plan(arms, (0, 1, 2))) as study:
        before(study)
        run_trials(study, burning, jobs=jobs, powercap=tmp_path / "powercap")
        seeds = {trial.run: trial.seed for trial in study.trials()}
        found = {seeds[run]: values.get("joules") for run, values in study.measured().items()}
        return found, study.energy


@pytest.mark.tier2
def test_a_run_has_the_joules_that_were_counted_while_it_went_on(tmp_path):
    found, said = burnt(tmp_path)
    assert found == pytest.approx({0: 2.0, 1: 4.0, 2: 6.0})
    assert said == (COUNTED,)


@pytest.mark.tier2
def test_runs_beside_each_other_have_no_joules(tmp_path):
    found, said = burnt(tmp_path, jobs=2)
    assert found == {0: None, 1: None, 2: None}
    assert said == ("not of 2 runs at a time, which counters cannot tell apart",)


def attempt(token, run, worker, started, ended):
    return Attempt(token, run, worker, started, ended, ended and "finished", None)


@pytest.mark.parametrize(
    ("other", "alone"),
    [
        (attempt(1, "other", "here:1 w", 0.0, 10.0), True),  # ended as this one began
        (attempt(1, "other", "here:1 w", 0.0, 10.5), False),
        (attempt(3, "other", "here:2 w", 12.0, None), False),
        (attempt(3, "other", "elsewhere:2 w", 12.0, None), True),
        (attempt(1, "mine", "elsewhere:2 w", 0.0, 5.0), False),  # some were used there
    ],
)
def test_joules_are_of_a_run_that_was_alone_on_its_machine_and_begun_once(other, alone):
    mine = attempt(2, "mine", "here:1 w", 10.0, None)
    lease = Lease(Trial(0, "mine", "", "one", 0, {}, Status.RUNNING), 2, "here:1 w", 99.0)
    assert was_alone([mine, other], lease) is alone


@pytest.mark.tier2
def test_a_run_that_goes_on_has_no_joules_since_some_were_used_before(tmp_path):
    def begun(study):
        lease = study.claim("elsewhere:1 w")
        study.give_back(lease)

    found, said = burnt(tmp_path, before=begun)
    assert sum(joules is None for joules in found.values()) == 1
    assert SHARED in said


@pytest.mark.tier2
def test_a_machine_without_counters_leaves_runs_as_they_are(tmp_path, plan):
    with Study.create(tmp_path / "a.study", plan) as study:
        run_trials(study, quick, powercap=tmp_path / "none")
        assert study.metrics() == ["loss"]
        assert "shows no counter" in study.energy[0]
