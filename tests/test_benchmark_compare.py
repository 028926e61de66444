"""Whether a benchmark's ratios are worse than in a baseline: `benchmarks/compare.py`."""

import json
import math
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import compare
import numpy as np
import pytest
from conversion import ConversionReport
from format_report import CodecTime, FormatsReport, Rate
from gguf_open import Opening, OpenReport
from inspect_models import Case, InspectBench
from kernel_report import CaseTime, Direction, KernelsReport
from merge import MergeBench
from overrides import KernelReport, KernelTime
from ratio_lines import Line, read_document
from step_report import Comparison, Report
from step_report import Side as StepSide
from step_worker import Shape
from turns import Side

from entrenar_common.errors import FormatError, UnsupportedError
from entrenar_common.tables import to_plain
from entrenar_core.environment import Environment

CPU = "A CPU (family 23, model 1), 2 cores"
MACHINE = Environment(CPU, "3.11", "2.4", "0.68", "scipy-openblas 0.3")
SHAPE = Shape(hidden=8, layers=1, heads=1, inner=8, batch=1, time=8)


def steps(ours: list[float], eager: list[float], machine: Environment = MACHINE) -> dict[str, Any]:
    """What `training_step.py --json` writes."""
    sides = [
        StepSide("eager", "", eager, eager, eager, 2.0, 0.0),
        StepSide("entrenar", "", ours, ours, eager, 2.0, 0.0),
    ]
    comparison = Comparison("24M", SHAPE, 2, sides, [])
    said = {"entrenar": {**to_plain(machine), "waited": sum(ours), "idle_cores": ours[0]}}
    report = Report("today", said, {}, len(ours), [comparison], False)
    return {"schema": "entrenar.benchmark.training-step/1", "data": to_plain(report)}


def test_a_mode_is_compared_in_its_precision_and_bf16_with_our_float32():
    seconds = {
        "eager": 4.0, "compiled-bf16": 1.5, "eager-bf16": 2.0, "entrenar-bf16": 1.0, "entrenar": 2.5
    }  # fmt: skip
    sides = [
        StepSide(mode, "", [each], [each], [10.0], 2.0, 0.0, 100) for mode, each in seconds.items()
    ]
    comparison = Comparison("24M", SHAPE, 2, sides, [])
    report = Report("today", {}, {}, 1, [comparison], False)
    document = {"schema": "entrenar.benchmark.training-step/1", "data": to_plain(report)}
    assert {name: line.ratio for name, line in read_document(document, "here").lines.items()} == {
        "24M against eager": 4.0 / 2.5,
        "24M, entrenar-bf16 against compiled-bf16": 1.5,
        "24M, entrenar-bf16 against eager-bf16": 2.0,
        "24M, entrenar-bf16 against entrenar": 2.5,
    }


@pytest.mark.parametrize(("apart", "passed"), [(0.019, True), (0.021, False)])
def test_losses_in_bf16_may_differ_by_what_rounding_the_loss_would_change(apart, passed):
    sides = [
        StepSide("eager-bf16", "", [1.0], [1.0], [10.24], 2.0, 0.0),
        StepSide("entrenar-bf16", "", [1.0], [1.0], [10.24 + apart], 2.0, 0.0),
    ]
    report = Report("today", {}, {}, 1, [Comparison("24M", SHAPE, 2, sides, [])], False)
    assert report.passed() == passed


def noisy(random: np.random.Generator, slower: float = 1.0) -> dict[str, Any]:
    """Five rounds of a step of one second and a peer's of two, on a machine that is busy with
    other work in some rounds (30 %) and does not do the same twice in the same time (2 %)."""
    busy = np.exp(0.3 * random.standard_normal(5))
    own, peer = busy * np.exp(0.02 * random.standard_normal((2, 5)))
    return steps(list(slower * own), list(2 * peer))


def verdicts(baseline: dict[str, Any], current: dict[str, Any], **given: Any) -> dict[str, str]:
    documents = (read_document(each, "here") for each in (baseline, current))
    return {line.name: line.verdict for line in compare.compare(*documents, **given)[1]}


def run(monkeypatch, *words: object) -> int:
    """The exit code of the command."""
    monkeypatch.setattr(sys, "argv", ["compare.py", *map(str, words)])
    try:
        compare.main()
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def written(path: Path, document: dict[str, Any]) -> Path:
    path.write_text(json.dumps(document))
    return path


@pytest.mark.parametrize("seed", range(5))
def test_a_step_that_takes_a_fifth_longer_is_found(tmp_path, monkeypatch, seed):
    random = np.random.default_rng(seed)
    before = written(tmp_path / "before.json", noisy(random))
    after = written(tmp_path / "after.json", noisy(random, slower=1.2))
    assert run(monkeypatch, before, after) == 1
    assert run(monkeypatch, after, before) == 0  # that is faster


def test_what_is_slower_within_the_margin_is_no_finding():
    before, after = steps([1.0] * 5, [2.0] * 5), steps([1.2] * 5, [2.0] * 5)
    assert verdicts(before, after, margin=0.1) == {"24M against eager": compare.SLOWER}
    assert verdicts(before, after, margin=0.2) == {"24M against eager": compare.SAME}


def test_nothing_is_said_of_two_equal_documents(tmp_path, monkeypatch, capsys):
    same = written(tmp_path / "same.json", noisy(np.random.default_rng(0)))
    assert run(monkeypatch, same, same, "--json") == 0
    (line,) = json.loads(capsys.readouterr().out)["data"]["lines"]
    assert (line["verdict"], line["change"]) == (compare.SAME, 1.0)


@pytest.mark.tier2
def test_unchanged_steps_seldom_look_changed():
    """Without a margin the interval leaves 1 out in 5 % of all cases, and no more."""
    random, count = np.random.default_rng(0), 400
    wrong = 0
    for _ in range(count):
        (a,), (b,) = (read_document(noisy(random), "").lines.values() for _ in range(2))
        bounds = compare.interval(a.rounds, b.rounds, resamples=400)
        assert bounds is not None
        wrong += not bounds[0] <= 1 <= bounds[1]
    assert wrong / count <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / count)


def test_the_interval_is_of_the_resampled_medians():
    """Of three rounds all 27 samples are known: a median is the least in 7, the largest in 7."""
    low, high = compare.interval([1.0, 1.0, 1.0], [1.0, 2.0, 4.0]) or (0, 0)
    assert (low, high) == (1.0, 4.0)
    assert compare.interval([1.0, 1.0], [1.0, 2.0, 4.0]) is None


@pytest.mark.parametrize("key", ["cpu", "blas", "numpy"])
def test_another_machine_is_named_and_not_compared(key):
    here = steps([1.0] * 5, [2.0] * 5)
    there = steps([9.0] * 5, [2.0] * 5, replace(MACHINE, **{key: "another"}))
    documents = (read_document(each, "here") for each in (here, there))
    other, (line,) = compare.compare(*documents)
    assert (line.verdict, line.why) == (compare.NOT_COMPARABLE, f"other machine.entrenar.{key}")
    assert other == [f"machine.entrenar.{key}: {getattr(MACHINE, key)} and now another"]


def test_variables_of_the_blas_are_of_the_machine():
    here, there = (steps([1.0] * 5, [2.0] * 5) for _ in range(2))
    there["data"]["openblas_variables"] = {"OPENBLAS_CORETYPE": "Haswell"}
    other, _ = compare.compare(read_document(here, ""), read_document(there, ""))
    assert other == ["openblas_variables.OPENBLAS_CORETYPE: not said and now Haswell"]


def test_other_work_under_the_same_name_is_not_compared():
    line = Line("a", 1.0, (1.0,) * 5, {"layers": 2})
    found = compare.judge("a", line, replace(line, setting={"layers": 3}), margin=0.05)
    assert (found.verdict, found.why) == (compare.NOT_COMPARABLE, "layers: 2 and now 3")


def test_what_only_one_document_has_is_not_compared():
    line = Line("a", 1.0, (1.0,) * 5)
    assert compare.judge("a", line, None, margin=0.05).why == "not measured now"
    assert compare.judge("a", None, line, margin=0.05).why == "not in the baseline"


def test_without_rounds_there_is_a_change_and_no_interval():
    found = compare.judge("a", Line("a", 2.0, ()), Line("a", 1.0, ()), margin=0.05)
    assert (found.verdict, found.change, found.low) == (compare.NO_INTERVAL, 0.5, None)


OURS, PEER = [1.0, 2.0, 2.0, 3.0, 1.5], [3.0, 2.0, 8.0, 3.0, 6.0]
RATIOS = tuple(theirs / own for own, theirs in zip(OURS, PEER, strict=True))
ENTRENAR, OTHER = (
    Side(name, median(turns), 1, tuple(turns)) for name, turns in (("entrenar", OURS), ("o", PEER))
)
RATES = {
    name: Rate(1 / median(seconds), 1.0, seconds)
    for name, seconds in (("entrenar", OURS), ("gguf", PEER))
}
DIRECTION = Direction("forward", 1.0, 1.5, None, OURS, PEER)
# The modules of two reports have names that modules of other tests have: their keys are here.
REPORTS: dict[str, tuple[Callable[[], Any], str]] = {
    "kernels": (
        lambda: KernelsReport(
            "today", MACHINE, "b", 2, {}, 5, [CaseTime("k", "s", 1, [DIRECTION], None)], [], True
        ),
        "k s, forward",
    ),
    "formats": (
        lambda: FormatsReport("today", MACHINE, 2, "", {}, 1.0, 5, [CodecTime("q", {}, RATES)]),
        "q decoding, gguf",
    ),
    "overrides": (
        lambda: KernelReport(MACHINE, [KernelTime("k", 2.0, 3.0, OURS, PEER)]),
        "k",
    ),
    "open": (
        lambda: OpenReport(MACHINE, 5, [Opening("file", 2.0, "gguf", 3.0, None, OURS, PEER)]),
        "file, gguf",
    ),
    "merge": (
        lambda: MergeBench("today", MACHINE, 1, 1, 5, (ENTRENAR, OTHER), 1.0, 1.0, 1.0),
        "merging an adapter, o",
    ),
    "conversion": (
        lambda: ConversionReport("today", MACHINE, 1, 1, 1, 5, (ENTRENAR, OTHER)),
        "q4_0 file, o",
    ),
    "merge-models": (
        lambda: {
            "layers": 2,
            "environment": MACHINE,
            "mergekit": [{"method": "ties", "ours": ENTRENAR, "theirs": OTHER}],
            "disk": [{"method": "ties", "ours": ENTRENAR, "script": replace(OTHER, name="p")}],
        },
        "ties, o",
    ),
    "inspect": (
        lambda: InspectBench(
            "today", MACHINE, 5, 4.0, (Case("validate", ENTRENAR, OTHER, "", "", True),)
        ),
        "validate, o",
    ),
    "compare-models": (
        lambda: {"layers": 2, "environment": MACHINE, "ours": ENTRENAR, "script": OTHER},
        "comparing models, o",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", REPORTS)
def test_every_benchmark_writes_its_rounds(kind):
    make, name = REPORTS[kind]
    document = {"schema": f"entrenar.benchmark.{kind}/1", "data": to_plain(make())}
    found = read_document(json.loads(json.dumps(document)), "here")
    assert found.lines[name].rounds == RATIOS
    assert found.lines[name].ratio == median(RATIOS)
    assert CPU in found.machine.values()


def test_a_stored_baseline_is_found_again(tmp_path, monkeypatch):
    current = written(tmp_path / "now.json", noisy(np.random.default_rng(0)))
    assert run(monkeypatch, "--store", tmp_path / "baselines", current) == 0
    stored = tmp_path / "baselines/family-23-model-1/training_step.json"
    assert stored.read_text() == current.read_text()
    assert run(monkeypatch, "--against", tmp_path / "baselines", current) == 0


def test_a_cpu_without_a_baseline_is_an_error_with_the_next_step(tmp_path, monkeypatch, capsys):
    current = written(tmp_path / "now.json", noisy(np.random.default_rng(0)))
    assert run(monkeypatch, "--against", tmp_path / "none", current) == 14
    assert "make bench-baseline" in capsys.readouterr().err


def test_what_is_no_benchmark_is_refused():
    with pytest.raises(FormatError, match="no document of a benchmark"):
        read_document([], "here")
    with pytest.raises(UnsupportedError, match="memory has no ratios"):
        read_document({"schema": "entrenar.benchmark.memory/1", "data": {}}, "here")
    with pytest.raises(FormatError, match="comparisons"):
        read_document({"schema": "entrenar.benchmark.training-step/1", "data": {}}, "here")
