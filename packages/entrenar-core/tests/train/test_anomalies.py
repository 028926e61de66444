"""Judging steps by their numbers: what is usual, kinds of steps, trends, and what they are named.

`clean_runs` has the figures of two trainings of 2,000 steps each in which nothing was wrong, on a
machine with two cores and eight other processes that came and went: steps took up to ten times as
long for minutes. `llama` evaluated every 100 steps and saved every 250, as `linear` did.
"""

import csv
import math
import statistics
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from entrenar_core.train.anomalies import AnomaliesSection, StepFigures, Watcher
from entrenar_core.train.anomalies.figures import FLOORS, MEMORY
from entrenar_core.train.anomalies.kinds import Kinds
from entrenar_core.train.anomalies.robust import Trend, Usual
from entrenar_core.train.anomalies.sustained import Sustained

pytestmark = pytest.mark.tier2

CLEAN = Path(__file__).parent / "clean_runs"
WITHIN = 20
STARTS = range(200, 1900, 250)


def recorded(name):
    with open(CLEAN / f"{name}.csv", newline="") as file:
        return [
            StepFigures(
                step=step,
                step_seconds=int(row["step_us"]) / 1e6,
                data_seconds=int(row["data_us"]) / 1e6,
                cpu_seconds=int(row["cpu_us"]) / 1e6,
                loss=float(row["loss"]),
                gradient_norm=float(row["grad_norm"]),
                private_bytes=int(row["private_kib"]) * 1024,
                disturbed=row["disturbed"] == "1",
            )
            for step, row in enumerate(csv.DictReader(file), 1)
        ]


LLAMA = recorded("llama")


def found(steps, **settings):
    watcher = Watcher(AnomaliesSection.model_validate(settings))
    return [finding for each in steps for finding in watcher.take(each)]


def planted(start, change, *, before=200, after=WITHIN):
    """What is found in some recorded steps that `change(figures, n)` made worse from `start` on."""
    steps = LLAMA[max(0, start - before) : start + after]
    first = len(steps) - after
    return found([change(s, n - first + 1) if n >= first else s for n, s in enumerate(steps)])


def stalled(figures, _n):
    return replace(
        figures,
        data_seconds=figures.data_seconds + 0.5,
        step_seconds=figures.step_seconds + 0.5,
    )


def throttled(figures, _n):
    compute = figures.compute_seconds * 3.5 + 0.1
    return replace(
        figures,
        step_seconds=figures.data_seconds + compute,
        cpu_seconds=figures.cpu_seconds * compute / figures.compute_seconds,
    )


def diverged(figures, _n):
    return replace(figures, loss=figures.loss * 1.5, gradient_norm=figures.gradient_norm * 20)


def leaked(figures, n):
    return replace(figures, private_bytes=figures.private_bytes + n * 2**20)


PLANTED = {"data-stall": stalled, "divergence": diverged, "memory-growth": leaked}


@pytest.mark.parametrize("name", ["llama", "linear"])
def test_nothing_is_noticed_in_a_clean_run(name):
    assert found(recorded(name)) == []


@pytest.mark.parametrize("kind", PLANTED)
def test_what_is_planted_in_a_clean_run_is_found_soon_and_named_wherever_it_begins(kind):
    for start in STARTS:
        findings = planted(start, PLANTED[kind])
        assert [each.kind for each in findings] == [kind], start
        assert start < findings[0].step <= start + WITHIN


def test_throttling_is_found_soon_wherever_processor_times_were_steady_before():
    """Where other processes came or went, they vary by a factor of two themselves."""
    steady = 0
    for start in range(200, 1900, 50):
        times = np.array([s.cpu_seconds for s in LLAMA[start - 200 : start]])
        low, high = np.quantile(times, [0.1, 0.9])
        if high > 1.5 * low:
            continue
        steady += 1
        (finding,) = planted(start, throttled)
        assert (finding.kind, finding.figure) == ("throttling", "cpu_seconds")
        assert start < finding.step <= start + WITHIN
    assert steady >= 10


def test_a_processor_that_others_use_is_no_throttling():
    """Steps take four times as long, and no more processor time."""

    def crowded(figures, _n):
        return replace(figures, step_seconds=figures.step_seconds + 3 * figures.compute_seconds)

    for start in STARTS:
        assert planted(start, crowded) == []


def test_a_notice_says_value_usual_value_step_and_what_to_do():
    (finding,) = planted(1500, stalled)
    usual = statistics.median(s.data_seconds for s in LLAMA[1300:1500])
    assert finding.usual == pytest.approx(usual, rel=0.2)
    notice = finding.notice()
    assert (notice.kind, notice.severity) == ("data-stall", "warning")
    assert notice.message.startswith(f"step {notice.step}: a step waits ")
    assert "usually 20" in notice.message  # microseconds
    assert "see what batches wait for" in notice.message


def test_a_change_is_told_once_while_it_goes_on():
    findings = planted(1000, stalled, after=600)
    assert [each.kind for each in findings] == ["data-stall"]


def test_what_comes_back_after_a_window_is_told_again():
    steps = [stalled(s, 1) if n in (*range(300, 330), *range(600, 630)) else s
             for n, s in enumerate(LLAMA[:700])]  # fmt: skip
    assert [each.kind for each in found(steps)] == ["data-stall", "data-stall"]


@pytest.mark.parametrize("figure", ["loss", "gradient_norm"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_step_that_is_lost_is_divergence_at_once(figure, value):
    steps = [*LLAMA[:5], replace(LLAMA[5], **{figure: value}), *LLAMA[6:20]]
    (finding,) = found(steps)
    assert (finding.kind, finding.step) == ("divergence", 6)
    assert finding.figure == {"loss": "loss", "gradient_norm": "grad_norm"}[figure]


def test_a_loss_that_climbs_slowly_is_divergence():
    steps = [replace(s, loss=2.0 + 0.002 * n) for n, s in enumerate(LLAMA[:400])]
    assert {each.kind for each in found(steps)} == {"divergence"}


def test_a_slow_leak_is_found_too():
    """A byte in 10,000 a step."""
    steps = [
        replace(s, private_bytes=s.private_bytes + 7000 * n) for n, s in enumerate(LLAMA[1000:1700])
    ]
    assert [each.kind for each in found(steps)] == ["memory-growth"]


def test_memory_that_comes_at_once_is_no_growth():
    """As with the first evaluation, and some more with the next ones."""
    steps = [
        replace(s, private_bytes=s.private_bytes + 20_000_000 * min(3, n // 100))
        for n, s in enumerate(LLAMA[1000:1700])
    ]
    assert found(steps) == []


def test_a_step_after_an_evaluation_is_not_judged_by_its_times():
    slow = [
        replace(throttled(s, 1), disturbed=True) if 1000 <= s.step < 1050 else s
        for s in LLAMA[700:1200]
    ]
    assert found(slow) == []


def test_a_kind_of_step_that_is_known_is_no_anomaly():
    """Forty long steps in every hundred: new the first time, and known since."""
    rng = np.random.default_rng(0)
    lengths = [3.0 if n % 100 >= 60 else 1.0 for n in range(1500)]
    steps = [
        StepFigures(n, s, 1e-4, s * 0.8, 2.0, 1.0, 10**8)
        for n, s in enumerate(0.2 * np.array(lengths) * rng.lognormal(0, 0.02, 1500), 1)
    ]
    assert [(each.kind, each.step <= 80) for each in found(steps)] == [("throttling", True)]


def test_kinds_that_are_ignored_are_not_noticed():
    steps = LLAMA[1000:1200] + [leaked(s, n) for n, s in enumerate(LLAMA[1200:1240])]
    assert [each.kind for each in found(steps)] == ["memory-growth"]
    assert found(steps, ignore=["memory-growth"]) == []


def test_the_same_steps_give_the_same_findings():
    steps = [stalled(s, 1) if s.step > 900 else s for s in LLAMA[:1000]]
    assert found(steps) == found(steps)


def test_constants_give_no_alarm_of_their_first_change():
    same = replace(LLAMA[0], step_seconds=0.1, data_seconds=0.001, loss=1.0, gradient_norm=1.0)
    other = replace(same, step_seconds=0.11, data_seconds=0.0011, loss=1.01, gradient_norm=1.1)
    assert found([same] * 100 + [other] * 100) == []


def test_what_is_kept_does_not_grow_beyond_the_window():
    watcher = Watcher(AnomaliesSection(window=50))
    for each in LLAMA[:400]:
        watcher.take(each)
    assert len(watcher._vectors) == 50


def test_judging_takes_less_than_a_hundredth_of_a_step_of_a_tenth_of_a_second():
    watcher = Watcher()
    began = time.thread_time()
    for each in LLAMA[:500]:
        watcher.take(each)
    assert (time.thread_time() - began) / 500 < 0.001


def test_usual_is_the_median_and_its_absolute_deviation():
    vectors = np.random.default_rng(0).normal(5, 2, size=(101, len(FLOORS)))
    usual = Usual.of(vectors)
    for place in range(len(FLOORS)):
        column = vectors[:, place].tolist()
        middle = statistics.median(column)
        away = statistics.median(abs(v - middle) for v in column)
        assert usual.median[place] == pytest.approx(middle)
        normal = statistics.NormalDist().inv_cdf(0.75)
        assert usual.spread[place] == pytest.approx(away / normal, rel=1e-4)


def test_a_spread_has_a_floor():
    usual = Usual.of(np.full((50, len(FLOORS)), 3.0))
    assert usual.spread[MEMORY] == pytest.approx(3.0 * FLOORS[MEMORY])
    assert usual.spread[0] == FLOORS[0]


def test_a_trend_finds_the_line_through_points_of_which_some_are_wrong():
    trend = Trend(every=1, points=21)
    rise = None
    for n in range(21):
        rise = trend.take(100.0 + 2.0 * n + (500.0 if n in (4, 11) else 0.0), 0.0)
    assert rise is not None
    assert (rise.first, rise.last) == pytest.approx((100.0, 140.0), abs=1e-9)
    assert rise.spread == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("stairs", [4, 5, 10])
def test_the_steadiness_of_stairs_is_that_of_their_pairs(stairs):
    """All pairs of different stairs rise, and none on the same, though it creeps."""
    trend = Trend(every=1, points=20)
    for n in range(20):
        rise = trend.take(1.0 + n * stairs // 20 + 1e-6 * n, 0.0)
    level = 20 // stairs
    flat = stairs * level * (level - 1) / 2
    assert rise.steady == pytest.approx(1 - flat / (20 * 19 / 2))


def test_a_trend_takes_the_median_of_some_steps_for_a_point():
    trend = Trend(every=3, points=2)
    taken = [trend.take(value, 0.0) for value in (1.0, 1.0, 50.0, 2.0, 2.0, -9.0)]
    assert taken[:5] == [None] * 5
    assert (taken[5].first, taken[5].last) == (1.0, 2.0)


def test_kinds_are_where_the_steps_are():
    rng = np.random.default_rng(0)
    clouds = [rng.normal(at, 0.5, size=(60, 3)) for at in (-20.0, 0.0, 20.0)]
    kinds = Kinds.of(np.concatenate(clouds), 3, seed=0, fit=0)
    wanted = np.array([cloud.mean(0) for cloud in clouds])
    np.testing.assert_allclose(kinds.centroids[np.argsort(kinds.centroids[:, 0])], wanted)


def test_an_outlier_score_is_the_distance_in_radii_of_the_nearest_kind():
    circle = [(math.cos(a), math.sin(a)) for a in np.linspace(0, 2 * math.pi, 40, endpoint=False)]
    kinds = Kinds.of(2 * np.array(circle), 1, seed=0, fit=0)
    assert kinds.outlier_score(np.array([0.0, 8.0])) == pytest.approx(4.0)


def test_a_few_steps_are_no_kind():
    rng = np.random.default_rng(0)
    vectors = np.concatenate([rng.normal(0, 1, size=(190, 3)), np.full((9, 3), 30.0)])
    for fit in range(10):
        kinds = Kinds.of(vectors, 4, seed=0, fit=fit)
        assert kinds.outlier_score(np.full(3, 30.0)) > 10


def test_one_vector_over_and_over_is_a_kind():
    kinds = Kinds.of(np.ones((40, 3)), 4, seed=0, fit=0)
    assert kinds.outlier_score(np.ones(3)) == 0.0


def test_a_switch_needs_steps_and_seconds():
    by_steps, by_seconds = Sustained(3, 4), Sustained(3, 4, seconds=1.0)
    offs = [True, False, True, True, True, True]
    assert [by_steps.take(off) for off in offs] == [False, False, False, True, False, False]
    told = [by_seconds.take(off, 0.25) for off in offs]
    assert told == [False, False, False, False, True, False]
