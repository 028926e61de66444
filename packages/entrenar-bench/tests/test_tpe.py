"""Points of a TPE sampler, beside those of optuna asked and told by hand."""

import sys

import numpy as np
import pytest

from entrenar_bench.adaptive import Adaptive
from entrenar_bench.space import parse_axis, random_points
from entrenar_bench.study import Arm, Plan, Study
from entrenar_bench.tpe import TpeSampler
from entrenar_common.errors import UnsupportedError
from growing import drive

AXES = [
    parse_axis(text)
    for text in (
        "listed=64,16,32",
        "named=relu,gelu,tanh",
        "mixed=true,1.5,none",
        "stepped=1:8:0.5",
        "grid=log:1e-5..1e-3:5",
        "span=0.0..1.0",
        "logs=log:1e-4..1e-2",
        "whole=4..64",
        "octaves=log:1..1024",
        "one=0.5",
    )
]


def by_hand(optuna, seed):
    """The distributions of AXES, and what optuna draws as a value of each axis."""
    at = optuna.distributions
    numbers = [16, 32, 64], [1 + 0.5 * i for i in range(15)], list(AXES[4].values)
    words = ["relu", "gelu", "tanh"], list(AXES[2].values)
    digits = lambda value: float(f"{value:.6g}")  # noqa: E731
    space = {
        "listed": (at.IntDistribution(0, 2), numbers[0].__getitem__),
        "named": (at.CategoricalDistribution([0, 1, 2]), words[0].__getitem__),
        "mixed": (at.CategoricalDistribution([0, 1, 2]), words[1].__getitem__),
        "stepped": (at.IntDistribution(0, 14), numbers[1].__getitem__),
        "grid": (at.IntDistribution(0, 4), numbers[2].__getitem__),
        "span": (at.FloatDistribution(0, 1), digits),
        "logs": (at.FloatDistribution(1e-4, 1e-2, log=True), digits),
        "whole": (at.IntDistribution(4, 64), int),
        "octaves": (at.IntDistribution(1, 1024, log=True), int),
        "one": (at.IntDistribution(0, 0), [0.5].__getitem__),
    }
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed), direction="maximize")
    return study, space


def worth(point) -> float | None:
    """Some points fail, and the others are worth a function of every axis."""
    if point["whole"] % 5 == 0:
        return None
    near = -((point["span"] - 0.3) ** 2) - (np.log10(point["logs"]) + 3) ** 2
    return float(near + (point["named"] == "gelu") + point["stepped"] / 10 + point["listed"] / 100)


@pytest.mark.parity
@pytest.mark.parametrize("seed", [0, 7])
def test_points_are_those_of_optuna_with_the_same_seed_and_values(seed):
    optuna = pytest.importorskip("optuna")
    study, space = by_hand(optuna, seed)
    sampler = TpeSampler(AXES, goal="higher", seed=seed)
    for _ in range(30):
        trial = study.ask({name: kind for name, (kind, _) in space.items()})
        wanted = {name: value(trial.params[name]) for name, (_, value) in space.items()}
        point = sampler.ask()
        assert point == wanted
        value = worth(point)
        sampler.tell(value)
        study.tell(trial, value, state=optuna.trial.TrialState.FAIL if value is None else None)


@pytest.mark.parity
def test_values_are_those_that_the_axis_has():
    pytest.importorskip("optuna")
    sampler = TpeSampler(AXES, goal="lower", seed=1)
    for _ in range(25):
        for axis, value in zip(AXES, sampler.ask().values(), strict=True):
            if isinstance(axis.values, tuple):
                assert any(value is one or value == one for one in axis.values)
            else:
                assert axis.values.low <= value <= axis.values.high
                assert isinstance(value, int) == axis.values.whole
        sampler.tell(0.5)


@pytest.mark.parity
def test_on_a_bowl_it_finds_lower_points_than_random_ones_of_the_same_number():
    pytest.importorskip("optuna")
    axes = [parse_axis("x=0.0..1.0"), parse_axis("y=log:1e-4..1.0")]

    def bowl(point):
        return (point["x"] - 0.7) ** 2 + (np.log10(point["y"]) / 4 + 0.6) ** 2

    asked, drawn = [], []
    for seed in range(12):
        sampler, found = TpeSampler(axes, goal="lower", seed=seed), []
        for _ in range(40):
            found.append(bowl(sampler.ask()))
            sampler.tell(found[-1])
        asked.append(min(found))
        drawn.append(min(map(bowl, random_points(axes, 40, seed=seed))))
    assert sum(a < b for a, b in zip(asked, drawn, strict=True)) >= 9
    assert np.median(asked) < np.median(drawn) / 2


def sweep(trials: int) -> Adaptive:
    axes = [parse_axis("x=0.0..4.0"), parse_axis("kind=a,b")]
    return Adaptive(
        Plan((Arm("base", {"x": 0.0, "kind": "a"}),), (0, 1)),
        TpeSampler(axes, goal="lower", seed=3),
        lambda point: Arm(f"{point['x']} {point['kind']}", dict(point)),
        metric="loss",
        trials=trials,
    )


def bent(config, seed):
    return {"loss": (config["x"] - 1) ** 2 + (config["kind"] == "b") + seed / 10}


@pytest.mark.parity
@pytest.mark.parametrize("runs", [1, 24, 35])
def test_a_sweep_that_was_stopped_asks_for_the_same_points_as_one_that_was_not(tmp_path, runs):
    pytest.importorskip("optuna")
    whole = sweep(18)
    with Study.create(tmp_path / "whole.study", whole.plan) as study:
        assert drive(study, whole, bent)
        wanted = study.asked
    cut = sweep(18)
    with Study.create(tmp_path / "a.study", cut.plan) as study:
        assert not drive(study, cut, bent, runs=runs)
    again = sweep(18)
    with Study.open(tmp_path / "a.study", again.plan) as study:
        assert drive(study, again, bent)
        assert study.asked == wanted
    assert again.plan == whole.plan
    assert len(set(wanted.points)) > 12


@pytest.mark.parity
def test_where_all_points_fail_the_sampler_goes_on_at_random():
    pytest.importorskip("optuna")
    sampler, points = TpeSampler(AXES, goal="lower", seed=2), []
    for _ in range(30):
        points.append(tuple(sampler.ask().values()))
        sampler.tell(None)
    assert len(set(points)) == 30


@pytest.mark.parity
def test_nothing_is_logged_and_what_is_logged_elsewhere_stays_as_it_is(capfd):
    optuna = pytest.importorskip("optuna")
    before = optuna.logging.get_verbosity()
    sampler = TpeSampler(AXES, goal="lower", seed=2)
    sampler.ask()
    sampler.tell(1.0)
    assert capfd.readouterr() == ("", "")
    assert optuna.logging.get_verbosity() == before


def test_without_optuna_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(UnsupportedError, match="optuna") as error:
        TpeSampler(AXES, goal="lower", seed=0)
    assert "entrenar-bench[tpe]" in error.value.hint
