"""The arms that the commands make of one configuration, and what they refuse before any run."""

import pytest
import yaml

from entrenar_bench.ablation import ablation_arms, factorial_arms
from entrenar_bench.base import ABSENT, Base, value_at
from entrenar_bench.strategies import strategy_arms
from entrenar_bench.sweeping import fresh_seeds, seeds_of, sweep_arms, temperature_arms
from entrenar_common.errors import ConfigError

PROGRESSIVE, ATTENTION = "distillation.progressive", "distillation.attention"


@pytest.fixture
def base(config) -> Base:
    """A configuration with the section attention, a temperature and an alpha of its own."""
    data = yaml.safe_load(config.read_text())
    data["distillation"] = {"temperature": 4, "alpha": 0.7, "attention": {"weight": 3}}
    config.write_text(yaml.safe_dump(data))
    return Base(config)


def by_name(arms):
    return {arm.name: arm for arm in arms}


def has(arm):
    return tuple(value_at(arm, key) is not ABSENT for key in (PROGRESSIVE, ATTENTION))


def test_each_strategy_has_its_sections_and_no_others(base):
    arms, _ = strategy_arms(base, ["kd-only", "progressive", "attention", "combined"])
    assert {arm.name: has(arm) for arm in arms} == {
        "kd-only": (False, False),
        "progressive": (True, False),
        "attention": (False, True),
        "combined": (True, True),
    }


def test_strategies_keep_the_configuration_apart_from_their_sections(base):
    arms = by_name(strategy_arms(base, ["kd-only", "attention"])[0])
    assert value_at(arms["attention"], f"{ATTENTION}.weight") == 3
    assert value_at(arms["kd-only"], "distillation.temperature") == 4


def test_a_section_that_the_configuration_lacks_has_its_defaults_and_is_noted(base):
    arms, notes = strategy_arms(base, ["attention", "combined"])
    assert value_at(arms[1], f"{PROGRESSIVE}.layer_mapping") == "uniform"
    assert notes == (f"the configuration has no {PROGRESSIVE}: its defaults are used",)


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["kd-only", "progresive"], "progresive; did you mean progressive"),
        (["kd-only"], "nothing to be compared with"),
        (["kd-only", "kd-only"], "twice"),
    ],
)
def test_strategies_that_make_no_comparison_are_refused(base, names, said):
    with pytest.raises(ConfigError, match=said):
        strategy_arms(base, names)


def test_a_section_that_does_not_go_with_the_configuration_is_refused(base):
    apart = [("distillation.attention", "null"), ("distillation.cross_tokenizer.merge", "observed")]
    with pytest.raises(ConfigError) as caught:
        strategy_arms(Base(base.config, overrides=tuple(apart)), ["kd-only", "progressive"])
    assert "does not go with progressive" in caught.value.report()


def test_an_ablation_takes_out_one_part_at_a_time(base):
    arms = by_name(ablation_arms(base, ["attention", "temperature", "distillation.alpha"]))
    assert list(arms) == ["full", "without attention", "without temperature", "without alpha"]
    assert has(arms["full"]) == has(arms["without alpha"]) == (False, True)
    assert has(arms["without attention"]) == (False, False)
    assert value_at(arms["without temperature"], "distillation.temperature") == 2
    assert value_at(arms["without alpha"], "distillation.alpha") == 0.5
    assert value_at(arms["without alpha"], "distillation.temperature") == 4


def test_a_switch_of_a_section_means_the_section(base):
    assert ablation_arms(base, ["attention.enabled"])[1] == ablation_arms(base, ["attention"])[1]


def test_a_factorial_takes_out_every_combination(base):
    arms = factorial_arms(base, ["attention", "alpha"])
    assert [arm.name for arm in arms] == [
        "full",
        "without attention",
        "without alpha",
        "without attention, alpha",
    ]
    assert has(arms[3]) == (False, False)
    assert value_at(arms[3], "distillation.alpha") == 0.5


def test_a_part_inside_one_that_is_taken_out_goes_with_it(base):
    arms = factorial_arms(base, ["attention", "distillation.attention.weight"])
    assert has(arms[3]) == (False, False)


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        (["progressive"], "no distillation.progressive"),
        (["batch_sise"], "did you mean training.batch_size"),
        (["training.max_grad_norm"], "its default"),
        (["training.seed"], "no part of an ablation"),
        (["alpha", "distillation.alpha"], "twice"),
    ],
)
def test_parts_that_cannot_be_taken_out_are_refused(base, parts, said):
    with pytest.raises(ConfigError, match=said):
        ablation_arms(base, parts)


def test_a_large_factorial_is_refused(base):
    with pytest.raises(ConfigError, match="128 arms"):
        factorial_arms(base, list("abcdefg"))


def test_temperatures_are_a_range_with_both_ends(base):
    arms = temperature_arms(base, "1.0..2.0", "0.5")
    assert [value_at(arm, "distillation.temperature") for arm in arms] == [1, 1.5, 2]


@pytest.mark.parametrize(
    ("span", "step", "said"),
    [
        ("4", "1", "no range"),
        ("4..1", "1", "empty"),
        ("1..4", "0", "the step is 0"),
        ("1..4", "9", "one temperature"),
        ("0..4", "1", "temperature"),
    ],
)
def test_ranges_without_two_temperatures_are_refused(base, span, step, said):
    with pytest.raises(ConfigError, match=said):
        temperature_arms(base, span, step)


def test_a_sweep_is_compared_with_the_configuration_as_it_is(base):
    baseline, arms = sweep_arms(base, ["alpha=0.2,0.9"], sampler="grid", trials=None)
    assert baseline == "base"
    assert [value_at(arm, "distillation.alpha") for arm in arms] == [0.7, 0.2, 0.9]


def test_a_point_that_is_the_configuration_is_not_run_twice(base):
    baseline, arms = sweep_arms(base, ["alpha=0.2,0.7"], sampler="grid", trials=None)
    assert (baseline, len(arms)) == ("alpha=0.7", 2)


def test_random_points_stay_when_more_are_asked_for(base):
    few, more = (
        sweep_arms(base, ["alpha=0.0..1.0"], sampler="random", trials=n)[1] for n in (2, 4)
    )
    assert more[:3] == few


@pytest.mark.parametrize(("sampler", "trials"), [("random", None), ("grid", 3)])
def test_trials_go_with_random_points(base, sampler, trials):
    with pytest.raises(ConfigError):
        sweep_arms(base, ["alpha=0.1,0.2"], sampler=sampler, trials=trials)


def test_epochs_replace_steps(base):
    assert value_at(base.for_epochs(2).arm("x"), "training.epochs") == 2
    assert value_at(base.for_epochs(2).arm("x"), "training.max_steps") is ABSENT


@pytest.mark.parametrize(
    ("text", "seeds"), [("3", (0, 1, 2)), ("4..6", (4, 5, 6)), ("1,7", (1, 7))]
)
def test_seeds_are_a_number_of_them_or_themselves(text, seeds):
    assert seeds_of(text) == seeds


@pytest.mark.parametrize("text", ["0", "1", "4..4", "7,"])
def test_seeds_that_no_test_can_use_are_refused(text):
    with pytest.raises(ConfigError):
        seeds_of(text)


def test_fresh_seeds_come_after_all_that_were_used():
    assert fresh_seeds((0, 7, 2), 3) == (8, 9, 10)
    with pytest.raises(ConfigError, match="too few"):
        fresh_seeds((0, 1), 1)
