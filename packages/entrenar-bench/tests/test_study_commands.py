"""The commands that run studies, on real distillations of toy size and on runs that are made up."""

import csv
import json
import os
import shlex
import signal
import sys

import click.testing
import pytest
import yaml
from scipy import stats

from entrenar_bench.cli import main
from entrenar_bench.statistics import paired_t
from entrenar_bench.study import Status, Study
from entrenar_common.output import Output
from study_runners import mended, mixed, taught

LOSSES = {(t, seed): taught({"distillation": {"temperature": t}}, seed)["loss"]
          for t in (1, 2, 3, 4) for seed in range(9)}  # fmt: skip


def run(*words: object) -> click.testing.Result:
    return click.testing.CliRunner().invoke(main, [str(word) for word in words])


def data(done: click.testing.Result) -> dict:
    return json.loads(done.stdout)["data"]


def rows(path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def made_up(monkeypatch) -> None:
    """Runs take no time, and their metrics are known."""
    monkeypatch.setattr("entrenar_bench.place.DistillRunner", lambda _folder: taught)


@pytest.fixture
def temperatures(config, tmp_path, made_up):
    """A command line that sweeps three temperatures over three seeds, and its study."""
    study = tmp_path / "t.study"
    words = ("temperature", "--range", "1..3", "--step", "1", "--seeds", "3", "--config", config,
             "--study", study)  # fmt: skip
    return words, study


@pytest.mark.tier3
@pytest.mark.parametrize(
    ("command", "arms"),
    [
        (("temperature", "--range", "1..2", "--step", "1"), ["temperature=1", "temperature=2"]),
        (("sweep", "--param", "alpha=0.9"), ["base", "alpha=0.9"]),
        (("compare", "--strategies", "kd-only,combined"), ["kd-only", "combined"]),
        (("ablation", "--ablate", "learning_rate"), ["full", "without learning_rate"]),
    ],
    ids=["temperature", "sweep", "compare", "ablation"],
)
def test_a_command_runs_distillations_and_compares_them(config, tmp_path, own_cache, command, arms):
    study, table = tmp_path / "x.study", tmp_path / "x.csv"
    done = run(*command, "--config", config, "--seeds", 2, "--study", study, "--output", table,
               "--json")  # fmt: skip
    assert done.exit_code == 0, done.output
    shown = data(done)
    assert [arm["name"] for arm in shown["arms"]] == arms
    assert all(arm["metrics"]["tokens_per_s"]["mean"] > 0 for arm in shown["arms"])
    assert len(shown["comparisons"]["comparisons"]) == 1
    written = rows(table)
    assert [(row["arm"], row["seed"]) for row in written] == [
        (arm, seed) for arm in arms for seed in ("0", "1")
    ]
    for row in written:
        report = json.loads((tmp_path / "x.study.runs" / row["run"] / "report.json").read_text())
        student = next(score for score in report["scores"] if score["name"] == "student")
        assert float(row["loss"]) == student["loss"]
        assert float(row["agreement"]) == student["agreement"]


@pytest.mark.tier2
def test_arms_are_shown_with_mean_and_deviation_and_tested_by_seed(temperatures):
    words, _ = temperatures
    shown = data(run(*words, "--json"))
    first = [LOSSES[1, seed] for seed in range(3)]
    second = [LOSSES[2, seed] for seed in range(3)]
    assert shown["arms"][0]["metrics"]["loss"]["mean"] == pytest.approx(sum(first) / 3)
    assert shown["best"] == "temperature=2"
    compared = shown["comparisons"]["comparisons"]
    assert [(c["arm"], c["baseline"]) for c in compared] == [
        ("temperature=2", "temperature=1"),
        ("temperature=3", "temperature=1"),
    ]
    assert compared[0]["p"] == pytest.approx(float(paired_t(second, first).p))
    assert compared[0]["adjusted_for"] == 2
    told = run(*words)  # nothing is run again
    assert "run 1 of" not in told.stderr
    assert "Confirm it with fresh seeds" in told.stdout


@pytest.mark.tier2
def test_the_best_is_confirmed_on_fresh_seeds_alone(temperatures):
    words, study = temperatures
    shown = data(run(*words, "--confirm", 4, "--json"))
    found = shown["confirmation"]
    assert (found["arm"], found["baseline"]) == ("temperature=2", "temperature=1")
    means = [sum(LOSSES[t, seed] for seed in range(3, 7)) / 4 for t in (2, 1)]
    assert found["means"] == pytest.approx(means)
    with Study.open(study.with_name("t.confirm.study")) as kept:
        assert {trial.seed for trial in kept.trials()} == {3, 4, 5, 6}


@pytest.mark.tier2
def test_a_study_that_is_stopped_goes_on_with_the_same_command(temperatures, monkeypatch):
    words, study = temperatures

    def interrupt(_out, text):
        if text.startswith("run 2 of 9"):
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patched:
        patched.setattr(Output, "note", interrupt)
        assert run(*words).exit_code == 75
    with Study.open(study) as kept:
        assert kept.counts()[Status.FINISHED] == 2
    told = run(*words)
    assert told.exit_code == 0, told.output
    assert "run 2 of 9" not in told.stderr
    assert "run 9 of 9" in told.stderr
    with Study.open(study) as kept:
        finished = [attempt.run for attempt in kept.attempts() if attempt.outcome == "finished"]
    assert len(finished) == len(set(finished)) == 9


@pytest.mark.tier2
def test_failed_runs_are_in_the_table_and_the_exit_code(config, tmp_path, made_up):
    words = ("sweep", "--param", "temperature=1,3,99", "--config", config, "--seeds", 2, "--study",
             tmp_path / "s.study", "--output", tmp_path / "s.csv")  # fmt: skip
    done = run(*words)
    assert done.exit_code == 33, done.output
    assert "2 of 8 runs failed" in done.stderr
    assert "99.0 is too hot" in done.stderr
    failed = [row for row in rows(tmp_path / "s.csv") if row["status"] == "failed"]
    assert {row["arm"] for row in failed} == {"temperature=99"}
    assert all(row["loss"] == "" and "too hot" in row["error"] for row in failed)
    assert [line for line in done.stdout.splitlines() if "temperature=99" in line and "0/2" in line]


@pytest.mark.tier2
def test_failed_runs_are_done_again_only_when_asked(config, tmp_path, made_up, monkeypatch):
    words = ("sweep", "--param", "temperature=99", "--config", config, "--seeds", 2, "--study",
             tmp_path / "s.study")  # fmt: skip
    assert run(*words).exit_code == 33
    monkeypatch.setattr("entrenar_bench.place.DistillRunner", lambda _folder: mended)
    assert run(*words).exit_code == 33
    done = run(*words, "--retry-failed")
    assert done.exit_code == 0, done.output
    assert done.stderr.count("temperature=99, seed") == 2
    assert "base, seed" not in done.stderr


@pytest.mark.tier2
def test_a_study_whose_runs_all_fail_shows_that(config, tmp_path, made_up):
    done = run("sweep", "--param", "temperature=98,99", "--set", "distillation.temperature=97",
               "--config", config, "--study", tmp_path / "s.study")  # fmt: skip
    assert done.exit_code == 33, done.output
    assert "the first 3 runs failed with the same error" in done.stderr
    assert "12 were not begun" in done.stderr


@pytest.mark.tier2
def test_another_study_in_the_same_file_has_to_be_allowed(temperatures):
    words, _ = temperatures
    assert run(*words).exit_code == 0
    changed = [word if word != "1..3" else "2..4" for word in words]
    assert run(*changed).exit_code == 12
    shown = data(run(*changed, "--allow-change", "--json"))
    assert [arm["name"] for arm in shown["arms"]] == [f"temperature={t}" for t in (2, 3, 4)]
    assert shown["arms"][0]["finished"] == 3


@pytest.mark.tier2
def test_another_metric_is_shown_from_the_same_runs(config, tmp_path, made_up):
    words = ("sweep", "--param", "temperature=1,3", "--config", config, "--seeds", 2, "--study",
             tmp_path / "s.study", "--json")  # fmt: skip
    wrong = run(*words, "--metric", "agrement")
    assert wrong.exit_code == 10
    assert "did you mean agreement" in wrong.stderr
    shown = data(run(*words, "--metric", "agreement", "--goal", "higher"))
    assert shown["best"] == "temperature=3"


@pytest.mark.tier2
def test_halving_gives_more_seeds_to_the_best_and_confirms_the_winner(config, tmp_path, made_up):
    words = ("sweep", "--param", "temperature=1,2,3,4,5,6", "--set",
             "distillation.temperature=9", "--config", config, "--seeds", 3, "--study",
             tmp_path / "h.study", "--output", tmp_path / "h.csv")  # fmt: skip
    done = run(*words, "--halving", "--confirm", 3, "--json")
    assert done.exit_code == 0, done.output
    shown = data(done)
    runs = {arm["name"]: (arm["finished"], arm["pruned"]) for arm in shown["arms"]}
    firsts = {t: taught({"distillation": {"temperature": t}}, 0)["loss"] for t in range(1, 7)}
    best = sorted(firsts, key=firsts.get)
    assert [t for t in firsts if not runs[f"temperature={t}"][1]] == sorted(best[:2])
    assert runs["base"] == (3, False)
    assert all(runs[f"temperature={t}"] == (1, True) for t in best[2:])
    assert shown["best"] in {f"temperature={t}" for t in best[:2]}
    assert shown["confirmation"]["arm"] == shown["best"]
    assert "described and not tested" in run(*words, "--halving").stdout
    assert sum(row["status"] == "pruned" for row in rows(tmp_path / "h.csv")) == 8
    report = run("report", tmp_path / "h.study", "--baseline", "base", "--format", "md", "--output",
                 tmp_path / "h.md")  # fmt: skip
    assert report.exit_code == 0, report.output
    assert "4 arms were pruned" in (tmp_path / "h.md").read_text()
    assert "8 pruned" in (tmp_path / "h.md").read_text()
    refused = run(*words)
    assert refused.exit_code == 12
    assert "another rule" in refused.stderr


@pytest.mark.parity
def test_tpe_asks_for_points_by_the_results_and_goes_on_with_more(config, tmp_path, made_up):
    pytest.importorskip("optuna")
    words = ("sweep", "--param", "temperature=1.0..8.0", "--config", config, "--seeds", 2, "--jobs",
             2, "--study", tmp_path / "t.study", "--sampler", "tpe", "--json")  # fmt: skip
    done = run(*words, "--trials", 3)
    assert done.exit_code == 0, done.output
    first = [arm["name"] for arm in data(done)["arms"]]
    assert first[0] == "base"
    assert len(first) == 4
    more = run(*words, "--trials", 5)
    assert [arm["name"] for arm in data(more)["arms"]][:4] == first
    assert more.stderr.count(", seed") == 4  # of the two new points
    report = run("report", tmp_path / "t.study", "--format", "md", "--output", tmp_path / "t.md")
    assert report.exit_code == 0, report.output
    assert "tree-structured Parzen estimator" in (tmp_path / "t.md").read_text()
    assert "point by point" in (tmp_path / "t.md").read_text()


def test_tpe_without_its_package_is_an_error_before_any_run(config, monkeypatch):
    monkeypatch.chdir(config.parent)
    monkeypatch.setitem(sys.modules, "optuna", None)
    points = ("--param", "alpha=0.1..0.9", "--sampler", "tpe", "--trials", "3")
    done = run("sweep", *points, "--config", config)
    assert done.exit_code == 15
    assert "entrenar-bench[tpe]" in done.stderr
    assert not list(config.parent.glob("*.study*"))


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("temperature", "--range", "1..4", "--seeds", "1"), 10, "too few"),
        (("temperature", "--range", "1..4", "--step", "0"), 10, "greater than 0"),
        (("temperature", "--range", "4..1"), 10, "empty"),
        (("temperature", "--range", "1..4", "--confirm", "1"), 10, "too few"),
        (("sweep", "--param", "temprature=1,2"), 10, "did you mean distillation.temperature"),
        (("sweep", "--param", "alpha=0.5"), 10, "nothing to be compared with"),
        (("sweep", "--param", "alpha=0.5,7"), 10, "at most 1"),
        (("sweep", "--param", "alpha=0.1..0.9", "--sampler", "tpe"), 10, "tpe points without a"),
        (
            ("sweep", "--param", "alpha=0.1..7", "--sampler", "tpe", "--trials", "3"),
            10,
            "at most 1",
        ),
        (
            (
                "sweep",
                "--param",
                "alpha=0.1..0.9",
                "--sampler",
                "tpe",
                "--trials",
                "3",
                "--halving",
            ),
            10,
            "one at a time",
        ),
        (("sweep", "--param", "alpha=0.3,0.9", "--trials", "3"), 10, "a grid has all its points"),
        (("sweep", "--param", "alpha=0.3,0.9", "--halving", "1"), 2, "halving"),
        (("compare", "--strategies", "kd-only,atention"), 10, "did you mean attention"),
        (("compare", "--margin", "-1"), 10, "margin"),
        (("ablation", "--ablate", "attention"), 10, "nothing to take out"),
        (("ablation", "--ablate", "learning_rate", "--output", "no/a.csv"), 14, "no such folder"),
    ],
)
def test_what_makes_no_study_is_an_error_before_any_run(config, monkeypatch, words, code, said):
    monkeypatch.chdir(config.parent)
    done = run(*words, "--config", config)
    assert done.exit_code == code, done.output
    assert said in done.stderr
    assert "hint:" in done.stderr or code == 2
    assert not list(config.parent.glob("*.study*"))


def test_a_distillation_without_a_dataset_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = run("temperature", "--range", "1..2", "--teacher", "a", "--student", "b")
    assert done.exit_code == 10
    assert "dataset" in done.stderr


@pytest.fixture
def factorial(config, tmp_path, monkeypatch):
    """A factorial of two parts that depend on each other: its words, its study and its table."""
    data = yaml.safe_load(config.read_text())
    data["distillation"] = {"temperature": 4, "alpha": 0.75}
    config.write_text(yaml.safe_dump(data))
    monkeypatch.setattr("entrenar_bench.place.DistillRunner", lambda _folder: mixed)
    study, table = tmp_path / "f.study", tmp_path / "f.csv"
    words = ("ablation", "--ablate", "temperature,alpha", "--factorial", "--config", config,
             "--seeds", "4", "--study", study, "--output", table)  # fmt: skip
    return words, study, table


@pytest.mark.tier2
def test_a_factorial_shows_what_parts_do_and_do_together(factorial):
    words, _, table = factorial
    shown = data(run(*words, "--json"))["factorial"]
    assert shown["parts"] == ["temperature", "alpha"]
    assert [effect["parts"] for effect in shown["effects"]] == [
        ["temperature"], ["alpha"], ["temperature", "alpha"],
    ]  # fmt: skip
    losses = {(row["arm"], int(row["seed"])): float(row["loss"]) for row in rows(table)}
    for place, signs in enumerate([(1, -1, 1, -1), (1, 1, -1, -1), (1, -1, -1, 1)]):
        arms = ("full", "without temperature", "without alpha", "without temperature, alpha")
        by_seed = [sum(s * losses[a, seed] for s, a in zip(signs, arms, strict=True)) / 2
                   for seed in range(4)]  # fmt: skip
        effect = shown["effects"][place]
        assert effect["estimate"] == pytest.approx(sum(by_seed) / 4)
        assert effect["p"] == pytest.approx(float(stats.ttest_1samp(by_seed, 0).pvalue))
    printed = run(*words).stdout
    assert "effects of having parts" in printed
    assert "temperature × alpha" in printed


@pytest.mark.tier2
def test_a_study_has_its_search_and_the_command_that_was_typed(factorial, config, tmp_path):
    words, study, _ = factorial
    assert run(*words).exit_code == 0
    with Study.open(study) as kept:
        assert kept.search.command == shlex.join(["entrenar-bench", *map(str, words)])
        assert kept.search.axes == ("temperature", "alpha")
        assert kept.search.criterion == "the lowest mean of loss over seeds"
        assert kept.energy != ()
    page = tmp_path / "f.md"
    assert run("report", study, "--output", page, "--format", "md").exit_code == 0
    text = page.read_text()
    assert shlex.join(["entrenar-bench", *map(str, words)]) in text
    assert "### loss: effects of parts" in text


@pytest.mark.tier2
def test_random_points_are_known_as_such(config, tmp_path, made_up):
    study = tmp_path / "r.study"
    words = ("sweep", "--param", "temperature=1.0..4.0", "--sampler", "random", "--trials", 3,
             "--config", config, "--seeds", 2, "--study", study, "--goal", "higher",
             "--confirm", 2)  # fmt: skip
    assert run(*words).exit_code == 0
    with Study.open(study) as kept:
        names = {trial.arm for trial in kept.trials()}
        assert set(kept.search.drawn) == names - {"base"}
        assert len(kept.search.drawn) == 3
        assert kept.search.axes == ("temperature=1.0..4.0",)
        assert kept.search.sampler == "random, 3 points"
    with Study.open(study.with_name("r.confirm.study")) as kept:
        assert kept.search.sampler == "the best of 4 and the baseline, on fresh seeds"
        assert kept.search.drawn == ()
