"""The pipeline tried on arms of which the truth is known."""

import json

import click.testing
import numpy as np
import pytest

from entrenar_bench import same_arms
from entrenar_bench.cli import main
from entrenar_bench.same_arms import WEAKER, SameArms, draw_studies, try_same_arms
from entrenar_bench.selftest import Kind
from entrenar_bench.toy import make_toy, shuffled_texts

NOTHING = Kind("no effect", "paired", 2, 5, 0.0, 0.05)
COPIES = ["copy 1", "copy 2", "copy 3"]


@pytest.fixture(autouse=True)
def few_drawn(monkeypatch) -> None:
    monkeypatch.setattr(same_arms, "_DRAWN", 60)


def pool(effect: float) -> dict[str, dict[int, float]]:
    """Runs whose seed matters more than their own noise, and one arm that is higher by `effect`."""
    rng = np.random.default_rng(5)
    seeds = rng.normal(size=10)
    noise = 0.1 * rng.normal(size=(4, 10))
    arms = zip([*COPIES, WEAKER], noise, [0.0, 0.0, 0.0, effect], strict=True)
    return {name: dict(enumerate(map(float, seeds + row + up))) for name, row, up in arms}


def test_studies_drawn_from_equal_arms_are_rarely_decided_and_an_effect_is_found():
    paired, independent, weaker = draw_studies(pool(effect=1.0), COPIES)
    assert paired.passed
    assert independent.passed
    assert weaker.passed
    assert weaker.share > 0.9


def test_an_effect_that_is_not_there_is_not_found():
    *_, weaker = draw_studies(pool(effect=0.0), COPIES)
    assert weaker.share < 0.2
    assert not weaker.passed


def test_equal_runs_that_differ_and_an_effect_that_is_missed_do_not_pass():
    checks = draw_studies(pool(effect=1.0), COPIES)
    good = SameArms(50, 10, 10, "no variance", "worse", True, checks)
    assert good.passed
    assert not SameArms(50, 10, 9, "no variance", "worse", True, checks).passed
    assert not SameArms(50, 10, 10, "no variance", "inconclusive", False, checks).passed


def test_copies_have_the_same_documents_in_another_order(tmp_path):
    one, other = shuffled_texts(tmp_path, copies=2)
    texts = [[file.read_text() for file in sorted(place.iterdir())] for place in (one, other)]
    assert texts[0] != texts[1]
    assert sorted(texts[0]) == sorted(texts[1])


@pytest.mark.tier2
def test_both_teachers_of_a_toy_have_equal_files(tmp_path):
    make_toy(tmp_path)
    first, second = (
        {file.name: file.read_bytes() for file in (tmp_path / name).iterdir()}
        for name in ("teacher", "second-teacher")
    )
    assert first == second


@pytest.mark.tier3
def test_equal_trainings_are_equal_and_fewer_steps_are_found(monkeypatch, own_cache):
    for name, value in {"_COPIES": 2, "_SEEDS": 4, "_STUDY": 2, "_JOBS": 1}.items():
        monkeypatch.setattr(same_arms, name, value)
    found = try_same_arms()
    assert found.trainings == 4 * 4
    assert found.equal == found.seeds == 4
    assert "the difference is 0 in every run" in found.twin
    assert found.found, found.weaker


@pytest.mark.parametrize(("equal", "code"), [(10, 0), (9, 1)])
def test_the_selftest_shows_trainings_apart_and_ends_with_what_they_show(monkeypatch, equal, code):
    checks = draw_studies(pool(effect=1.0), COPIES)
    real = SameArms(50, 10, equal, "no variance", "worse", True, checks)
    monkeypatch.setattr(same_arms, "try_same_arms", lambda **_options: real)
    monkeypatch.setattr("entrenar_bench.selftest._kinds", lambda: iter([NOTHING]))
    words = ["selftest", "--simulate", "50", "--pipeline"]
    done = click.testing.CliRunner().invoke(main, words)
    assert done.exit_code == code, done.output
    simulated, _, trained = done.stdout.partition("Verdicts on 50 trainings made here")
    assert "nothing is trained" in simulated
    assert "the same arm, 5 pairs" in trained
    data = json.loads(click.testing.CliRunner().invoke(main, [*words, "--json"]).stdout)["data"]
    assert (len(data["checks"]), len(data["pipeline"]["checks"])) == (1, 3)
