"""The report: its verdict, its look, and JSON there and back."""

import json
import math
from dataclasses import replace

import pytest

from entrenar_common.errors import FormatError, NotFoundError, UnsupportedError
from entrenar_common.testing import render_plain
from entrenar_distill.loss import DistillationConfig
from entrenar_distill.present import to_markdown
from entrenar_distill.report import (
    CompressionBaseline,
    Difference,
    Environment,
    ModelScore,
    PhaseTiming,
    Reproduction,
    RunReport,
    Sample,
    caveats,
    verdict,
)
from entrenar_distill.report_json import from_json, read_report, to_json


def score(name, bits, agreement=None):
    return ModelScore(name, 1_049_000, 2.5, math.exp(2.5), bits, agreement)


REPORT = RunReport(
    teacher="models/teacher",
    student="config (4 layers, hidden size 128)",
    temperature=2.0,
    alpha=0.5,
    steps=600,
    seed=0,
    scores=(score("teacher", 1.2), score("student", 1.5, 0.51), score("control", 1.54, 0.48)),
    phases=(
        PhaseTiming("student", 65.0, 1_228_800, 18_904.0, 600),
        PhaseTiming("control", 48.0, 1_228_800, 25_600.0, 600),
    ),
    environment=Environment("A CPU, 2 cores", "3.11.9", "2.4.6", "0.68.1", "OpenBLAS 0.3.30"),
    difference=Difference(-0.04, -0.05, -0.03, 0.95, 35, 10_000),
    baseline=CompressionBaseline("gzip -9", 2.1),
    curve={"student": ((1, 8.2), (600, 2.9)), "control": ((1, 8.2), (600, 3.0))},
    parts={"divergence": ((1, 4.0), (600, 0.5)), "agreement": ((1, 0.01), (600, 0.51))},
    reproduction=Reproduction(
        "# again\nentrenar-distill run --config out/distill.yaml --output out-again",
        "c0ffee" * 10,
        {"teacher": "deadbeef" * 8},
        {"entrenar-core": "0.1.0", "numpy": "2.4.6"},
    ),
    samples=(Sample("def main(", "student", "self):\n\treturn 1\n"),),
    files={"model": "out", "metrics": "out/metrics.jsonl"},
    next_commands=("entrenar-distill run --config distill.yaml --set training.epochs=3",),
    formula=DistillationConfig.model_validate({}).formula,
)


def with_interval(estimate, low, high, documents=35):
    return replace(REPORT, difference=Difference(estimate, low, high, 0.95, documents, 10_000))


# --- the verdict ------------------------------------------------------------------------------


def test_an_interval_below_zero_says_that_distillation_helped_and_by_how_much():
    text = verdict(with_interval(-0.04, -0.05, -0.03))
    assert text.startswith("Distillation helped by 0.0400 bits per byte")
    assert "95 % interval" in text
    assert "-0.0500 to -0.0300" in text
    assert "35 held-out documents" in text


@pytest.mark.parametrize("bounds", [(-0.05, 0.01), (-0.05, 0.0), (0.0, 0.05)])
def test_an_interval_that_contains_zero_says_that_no_difference_is_shown(bounds):
    assert verdict(with_interval(-0.02, *bounds)).startswith("No difference shown")


def test_an_interval_above_zero_says_that_distillation_hurt():
    text = verdict(with_interval(0.04, 0.03, 0.05))
    assert text.startswith("Distillation hurt by 0.0400 bits per byte: train without the teacher")


def test_without_a_control_nothing_is_claimed():
    text = verdict(replace(REPORT, difference=None))
    assert text == "Cannot tell whether distillation helped: run with --control."


@pytest.mark.parametrize("figures", [(-0.1, math.nan, math.nan), (math.nan, -0.2, -0.1)])
def test_without_an_interval_nothing_is_claimed(figures):
    assert verdict(with_interval(*figures, documents=1)).startswith("Cannot tell")


def test_a_report_writes_its_own_verdict():
    assert REPORT.verdict == verdict(REPORT)


# --- caveats ----------------------------------------------------------------------------------


def test_a_sound_report_has_no_caveats():
    assert caveats(REPORT) == []


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"scores": (score("teacher", 2.2),)}, "no better than gzip -9"),
        ({"scores": (score("teacher", math.nan),)}, "no better than gzip -9"),
        ({"scores": (score("teacher", 1.6), score("control", 1.5))}, "no better than the control"),
        ({"skipped_steps": 3}, "3 optimizer steps were skipped"),
        ({"difference": Difference(-0.04, -0.05, -0.03, 0.95, 7, 10_000)}, "Only 7 held-out"),
    ],
)
def test_what_a_reader_should_know_is_said(change, text):
    report = replace(REPORT, **change)
    assert [text in note for note in caveats(report)] == [True]
    assert text in render_plain(report).replace("\n", " ")


# --- the look ---------------------------------------------------------------------------------


def test_the_terminal_shows_everything_in_80_columns():
    shown = render_plain(REPORT, width=80)
    assert max(map(len, shown.splitlines())) <= 80
    expected = ["1.2000", "51.0 %", "gzip -9", "-0.0400", "1m 05s", "18.9K", "out/metrics.jsonl"]
    expected += ["alpha*T^2*KL", "per valid token", "def main(self):", "OpenBLAS", "┤", "epochs=3"]
    expected += ["agreement 0.01 → 0.51", "deadbeef" * 2, "numpy 2.4.6", "--output out-again"]
    assert [text for text in expected if text not in shown] == []


def test_a_report_of_a_plain_run_shows_too():
    plain = replace(
        REPORT,
        scores=REPORT.scores[:2],
        difference=None,
        baseline=None,
        curve={},
        samples=(),
        files={},
        next_commands=(),
        verdict="",
    )
    for text in (render_plain(plain), to_markdown(plain)):
        assert "run with --control" in text


def test_markdown_has_the_same_figures_in_tables():
    text = to_markdown(REPORT)
    assert "| student | 1.05M | 2.5000 | 12.18 | 1.5000 | 51.0 % |" in text
    assert "| student − control | – | – | – | -0.0400 | – |" in text
    assert "- metrics: `out/metrics.jsonl`" in text
    assert text.endswith("```\n")


def test_text_that_a_model_wrote_stays_inside_its_block_and_is_shown_escaped():
    nasty = Sample("x", "student", "\n```\n# heading\n\x1b[2J")
    report = replace(REPORT, samples=(nasty,))
    text = to_markdown(report)
    assert "````text" in text
    assert "\x1b" not in text + render_plain(report)


def test_names_from_outside_do_nothing_in_markdown():
    odd = ModelScore("a|b*<i>", 1, 1.0, 2.7, 1.0, None)
    assert r"a\|b\*\<i>" in to_markdown(replace(REPORT, scores=(odd,)))


def test_long_lines_and_long_texts_are_cut():
    report = replace(REPORT, samples=(Sample("p", "student", "y" * 500 + "\n\n" * 50),))
    lines = to_markdown(report).partition("the models write")[2].splitlines()
    assert max(map(len, lines)) <= 80
    assert sum(line.startswith("  │") for line in lines) <= 7


# --- JSON -------------------------------------------------------------------------------------


def test_a_report_comes_back_from_json_as_it_was():
    assert from_json(json.loads(json.dumps(to_json(REPORT), allow_nan=False))) == REPORT


def test_a_number_that_is_not_finite_is_null_in_json_and_nan_again_afterwards():
    report = with_interval(math.nan, math.nan, math.nan)
    data = to_json(report)
    assert data["difference"]["low"] is None
    assert math.isnan(from_json(data).difference.low)


def test_a_file_is_read_and_shown_again(tmp_path):
    path = tmp_path / "report.json"
    path.write_text(json.dumps(to_json(REPORT)))
    assert render_plain(read_report(path)) == render_plain(REPORT)


def test_a_missing_report_is_not_found(tmp_path):
    with pytest.raises(NotFoundError):
        read_report(tmp_path / "report.json")


def test_a_report_of_another_version_is_unsupported():
    with pytest.raises(UnsupportedError, match="version 2"):
        from_json({**to_json(REPORT), "schema_version": 2})


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"steps": "600"}, "report.steps is of the wrong type"),
        ({"steps": True}, "report.steps is of the wrong type"),
        ({"steps": None}, "report.steps is of the wrong type"),
        ({"scores": [{"name": "x"}]}, "report.scores.0 lacks agreement"),
        ({"curve": {"student": [[1, 2.0, 3.0]]}}, "report.curve.student.0 must have 2 values"),
        ({"alpha": 10**400}, "too large"),
        ({"surprise": 1}, "report has unknown keys"),
        ({"difference": []}, "report.difference is of the wrong type"),
    ],
)
def test_a_damaged_report_is_refused_with_the_place(change, text):
    with pytest.raises(FormatError, match=text):
        from_json({**to_json(REPORT), **change})


@pytest.mark.parametrize("absent", ["adapter", "quantization", "difference"])
def test_a_report_from_before_there_was_such_a_thing_is_read_without_it(absent):
    data = to_json(REPORT)
    del data[absent]
    assert getattr(from_json(data), absent) is None


@pytest.mark.parametrize("data", [None, [], 3, {}, {"schema_version": "x"}])
def test_what_is_no_report_is_refused(data):
    with pytest.raises(FormatError) as caught:
        from_json(data)
    assert caught.value.hint


# --- samples ----------------------------------------------------------------------------------


def samples_of(*samples):
    shown = render_plain(replace(REPORT, samples=samples))
    return shown.split("Text that the models write\n")[1].split("\n\nRun\n")[0].splitlines()


def test_a_prompt_is_shown_once_and_each_model_goes_on_from_its_last_line():
    prompt = "class A:\n\n    def f("
    found = samples_of(
        Sample(prompt, "teacher", "self):\n        pass"), Sample(prompt, "student", "x")
    )
    assert found == [
        "  a held-out document, up to its middle",
        "  │ class A:",
        "  teacher goes on",
        "  │     def f(self):",
        "  │         pass",
        "  student goes on",
        "  │     def f(x",
    ]


def test_of_long_texts_the_lines_around_the_cut_are_shown():
    prompt = "".join(f"line {i}\n" for i in range(9)) + "x" * 200
    found = samples_of(Sample(prompt, "student", "\n" + "\n\n".join("abcdefgh")))
    assert found[1:4] == ["  │ line 6", "  │ line 7", "  │ line 8"]
    assert found[5:] == ["  │ …" + "x" * 29, *(f"  │ {letter}" for letter in "abcde")]


def test_a_model_that_writes_nothing_is_shown_to_write_nothing():
    assert samples_of(Sample("a\n", "student", " \n"))[-1] == "  │ (nothing)"
