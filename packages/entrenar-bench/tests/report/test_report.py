"""The report of a study says the same in every format, all of it, and what the runs say."""

import dataclasses
import itertools
import json
import math
import re
import shutil
import statistics
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from entrenar_bench.report.analysis import detectable
from entrenar_bench.report.compose import compose
from entrenar_bench.report.document import number
from entrenar_bench.report.write import FORMATS, without_timings, written
from entrenar_bench.statistics import compare, factorial_effects, paired_power
from entrenar_common.errors import UsageError
from report_samples import READERS, HtmlReader, check_latex, facts, rows_under

SECTIONS = [
    "Summary",
    "Methodology",
    "Results",
    "Statistical analysis",
    "Recommendations",
    "Checklist",
    "Reproduction",
    "Timings",
]
EVERY = pytest.mark.parametrize("form", FORMATS)
HOSTILE = [
    "a|b\\|c\\",
    "<script>alert(1)</script>",
    r"\input{/etc/passwd} $x$ #1 %",
    "*bold* _it_ `code` [link](http://x) ![i](j) ~~s~~ & &amp; @you :smile:",
    "1. list\n\n# heading\n- item",
    "]]> --> <!-- </style> \x1b[2J \u202e",
    "中文 é ß",
    "--- === +",
]


def read(study, form):
    return READERS[form](written(compose(study), form))


@EVERY
def test_every_section_is_there_in_order(form):
    headings, _ = read(facts(), form)
    assert headings == SECTIONS


@EVERY
def test_means_spreads_and_intervals_are_those_of_the_runs(form):
    study = facts(lost=[(2, 5)])
    _, tables = read(study, form)
    rows = rows_under(tables, ["Arm", "Mean", "SD", "Low", "High", "n"])[:3]
    for arm, row in zip(study.arms, rows, strict=True):
        values = [r.metrics["loss"] for r in study.runs if r.arm == arm.name and r.state == "done"]
        mean, sd = statistics.fmean(values), statistics.stdev(values)
        error = sd / math.sqrt(len(values))
        low, high = stats.t.interval(0.95, len(values) - 1, mean, error)
        assert row[0] == arm.name
        assert [float(c) for c in row[1:5]] == pytest.approx([mean, sd, low, high], rel=1e-5)
        assert row[5:7] == [str(len(values)), str(6 - len(values))]


@EVERY
def test_differences_and_p_are_those_of_a_paired_t_test(form):
    study = facts()
    _, tables = read(study, form)
    rows = rows_under(tables, ["Arm", "Against", "Mean", "Other mean", "Difference"])
    by_arm = {a.name: [r.metrics["loss"] for r in study.runs_of(a.name)] for a in study.arms}
    assert [row[:2] for row in rows] == [["arm 1", "arm 0"], ["arm 2", "arm 0"]]
    for row in rows:
        test = stats.ttest_rel(by_arm[row[0]], by_arm[row[1]])
        interval = test.confidence_interval()
        shown = [float(cell) for cell in row[4:7]]
        apart = statistics.fmean(by_arm[row[0]]) - statistics.fmean(by_arm[row[1]])
        assert shown == pytest.approx([apart, interval.low, interval.high], rel=1e-5)
        assert float(row[7]) == pytest.approx(test.pvalue, rel=1e-2)


@EVERY
def test_every_run_of_a_large_study_has_its_line(form):
    study = facts(30, 10, lost=[(3, 3)], steps=3)
    _, tables = read(study, form)
    rows = rows_under(tables, ["Arm", "Seed", "loss"])
    expected = [
        [run.arm, str(run.seed), number(run.metrics["loss"]) if run.metrics else "failed"]
        for run in study.runs
    ]
    assert rows == expected
    assert len(rows_under(tables, ["Arm", "Seed", "First"])) == 299
    assert len(rows_under(tables, ["Arm", "Against", "Effect"])) == 29 * 3


@EVERY
def test_times_are_in_the_marked_section_alone(form):
    one, other = (written(compose(facts(seconds=s)), form) for s in (1.0, 3.5))
    assert one != other
    marked = re.compile(r"^.*timings: begin.*?timings: end", re.DOTALL | re.MULTILINE)
    assert marked.sub("", one).replace("\n", "") != one.replace("\n", "")
    cut = [re.sub(r"(?s)timings: begin.*timings: end", "", text) for text in (one, other)]
    assert cut[0] == cut[1]


@EVERY
def test_without_timings_equal_studies_give_equal_bytes(form):
    texts = {
        written(without_timings(compose(facts(seconds=seconds))), form) for seconds in (1.0, 3.5)
    }
    (text,) = texts
    assert "imings" not in text.replace("--no-timings", "")


@EVERY
def test_the_order_in_which_runs_were_made_changes_nothing_but_timings(form):
    study = facts()
    turned = dataclasses.replace(study, runs=study.runs[::-1])
    kept = [written(without_timings(compose(each)), form) for each in (study, turned)]
    assert kept[0] == kept[1]


@EVERY
@pytest.mark.parametrize("shape", [(0, 0), (1, 0), (1, 1), (2, 1), (3, 2)])
def test_a_study_with_hardly_a_run_has_all_sections(form, shape):
    headings, _ = read(facts(*shape), form)
    assert headings == SECTIONS


@EVERY
def test_failed_runs_are_listed_with_what_they_failed_of(form):
    _, tables = read(facts(lost=[(1, 2), (1, 4)]), form)
    rows = rows_under(tables, ["Arm", "Seed", "", "Why"])
    assert rows == [["arm 1", seed, "failed", "arm 1 broke"] for seed in "24"]


@EVERY
def test_a_result_that_is_not_finite_is_said_and_is_in_no_mean(form):
    study = facts(not_finite=[(1, 3)])
    _, tables = read(study, form)
    row = rows_under(tables, ["Arm", "Mean", "SD"])[1]
    finite = [r.metrics["loss"] for r in study.runs_of("arm 1") if r.seed != 3]
    assert float(row[1]) == pytest.approx(statistics.fmean(finite), rel=1e-5)
    assert row[5:] == ["5", "0", "1", "0"]
    assert ["arm 1", "3", "not finite"] in rows_under(tables, ["Arm", "Seed", "loss"])


@EVERY
def test_a_study_in_which_every_run_failed_is_reported(form):
    study = facts(2, 2, lost=[(a, s) for a in range(2) for s in range(2)])
    _, tables = read(study, form)
    assert len(rows_under(tables, ["Arm", "Seed", "", "Why"])) == 4


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("form", ["html", "md"])
def test_names_from_files_are_shown_and_do_nothing(form, name):
    """Names are the same text in every cell; what steers a terminal is shown escaped."""
    from entrenar_common.text import escape_controls

    _, tables = read(facts(2, 3, name=name.replace("{", "(").replace("}", ")") + "{}"), form)
    rows = rows_under(tables, ["Arm", "Mean", "SD"])
    shown = escape_controls(name.replace("{", "(").replace("}", ")"))
    assert [" ".join(row[0].split()) for row in rows[:2]] == [
        " ".join(f"{shown}{i}".split()) for i in range(2)
    ]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_no_commands_of_latex(name):
    study = facts(2, 3, lost=[(0, 1)], name=name.replace("{", "{{").replace("}", "}}") + "{}")
    check_latex(written(compose(study), "latex"))


@settings(max_examples=20, deadline=None)
@given(st.text(max_size=40))
def test_any_title_is_shown_by_latex_and_runs_nothing(title):
    document = compose(dataclasses.replace(facts(1, 1), title=title))
    check_latex(written(document, "latex"))


@settings(max_examples=25, deadline=None)
@given(st.text(max_size=30))
def test_any_question_is_one_paragraph_of_markdown(question):
    from markdown_it import MarkdownIt

    from entrenar_common.text import escape_controls

    document = compose(dataclasses.replace(facts(1, 1), question=f"Q{question}"))
    tokens = MarkdownIt("commonmark").enable("table").parse(written(document, "md"))
    place = next(i for i, t in enumerate(tokens) if t.type == "paragraph_open")
    shown = "".join(child.content for child in tokens[place + 1].children)
    assert shown.split() == escape_controls(f"Q{question}").split()


def test_the_page_loads_and_runs_nothing():
    found = HtmlReader(written(compose(facts(name=HOSTILE[1] + "{}")), "html"))
    assert {"script", "img", "link", "iframe"} & {tag for tag, _ in found.tags} == set()
    names = {name for _, attributes in found.tags for name in attributes}
    assert not {name for name in names if name.startswith("on")} | names & {"src", "srcdoc"}


def test_the_page_draws_every_finite_run_as_a_dot_with_its_seed():
    study = facts(lost=[(0, 0)], not_finite=[(1, 1)])
    text = written(compose(study), "html")
    dots = re.findall(r'class="dot" d="[^"]*"><title>seed (\d+): ([^<]*)</title>', text)
    results = [(str(r.seed), number(r.metrics["loss"])) for r in study.runs if r.metrics]
    finite = [each for each in results if each[1] != "–"]
    strips = dots[: len(finite)]  # the sweep has them once more
    assert sorted(strips) == sorted(finite)


def test_latex_of_a_large_study_is_well_formed():
    check_latex(written(compose(facts(30, 10, lost=[(3, 3)])), "latex"))


@pytest.mark.tier3
@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="there is no pdflatex")
def test_latex_compiles(tmp_path):
    (tmp_path / "r.tex").write_text(written(compose(facts(name="中 é _{}")), "latex"), "utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "r.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]


def test_hashes_are_of_the_configuration_and_not_of_the_order_of_its_keys():
    study = facts(2, 2)
    turned = dict(reversed(study.arms[0].config.items()))
    assert dataclasses.replace(study.arms[0], config=turned).digest == study.arms[0].digest
    assert study.arms[0].digest != study.arms[1].digest
    assert json.loads(json.dumps(turned)) == study.arms[0].config


def test_an_unknown_format_is_refused_with_the_nearest():
    with pytest.raises(UsageError, match="htlm") as caught:
        written(compose(facts(1, 1)), "htlm")
    assert "html" in caught.value.hint


def test_the_detectable_effect_is_found_with_four_in_five():
    found = compare([1.0, 2.0, 3.5, 1.0, 2.0], [1.1, 2.0, 3.0, 1.5, 2.2])
    assert paired_power(detectable(found), 5) == pytest.approx(0.8, abs=1e-6)


def test_the_checklist_answers_no_to_what_was_not_recorded():
    bare = dataclasses.replace(
        facts(), hardware={}, versions={}, revision=None, axes=(), criterion="", made_by=()
    )
    _, tables = read(bare, "html")
    answers = {row[0]: row[1] for row in rows_under(tables, ["Question", "Answer"])}
    assert answers["Is the hardware stated?"] == "no"
    assert answers["Is the code at a stated revision, unmodified?"] == "no"
    assert answers["Are bounds and method of the search stated?"] == "no"
    assert answers["Is the criterion of selection stated?"] == "no"
    assert answers["Are commands to reproduce the study given?"] == "no"
    assert answers["Are all seeds stated, and is none twice?"] == "yes"


def test_the_checklist_shows_the_search_the_criterion_and_the_command_that_were_recorded():
    _, tables = read(facts(), "html")
    rows = {row[0]: row[1:] for row in rows_under(tables, ["Question", "Answer"])}
    assert rows["Are bounds and method of the search stated?"] == ["yes", "x=1,2,3; by: grid"]
    criterion = rows["Is the criterion of selection stated?"]
    assert criterion == ["yes", "recorded with the runs: the lowest mean of loss over seeds"]
    assert rows["Are commands to reproduce the study given?"][0] == "yes"


def test_what_was_not_recorded_of_the_search_is_said():
    bare = dataclasses.replace(facts(), axes=(), method="", criterion="", made_by=())
    text = written(compose(bare), "md")
    for fact in ("Search space, as written", "Configurations chosen by", "The best is chosen by"):
        assert f"| {fact} | not recorded |" in text
    assert "The command that made the runs: not recorded." in text


@EVERY
def test_the_command_that_made_the_runs_is_there(form):
    shown = written(compose(facts()), form).replace("{-}", "-").replace("{,}", ",")
    assert "entrenar-bench sweep --param x=1,2,3" in shown


def factorial(lost=()):
    """Arms that lack a, b, both or nothing."""
    study = facts(4, 6, lost=lost)
    lacks = dict(
        zip([arm.name for arm in study.arms], [(), ("a",), ("b",), ("a", "b")], strict=True)
    )
    values = {arm.name: study.values_of(arm.name, "loss") for arm in study.arms}
    found = factorial_effects(values, lacks, metric="loss")
    return dataclasses.replace(study, effects=[found]), found


@EVERY
def test_the_effects_of_a_factorial_are_those_that_were_tested(form):
    study, found = factorial(lost=[(1, 4)])
    _, tables = read(study, form)
    rows = rows_under(tables, ["Effect", "Estimate", "Low", "High", "p", "Adjusted p"])
    assert [row[0] for row in rows] == ["a", "b", "a × b"]
    for row, effect in zip(rows, found.effects, strict=True):
        shown = [effect.estimate, effect.low, effect.high]
        assert [float(cell) for cell in row[1:4]] == pytest.approx(shown, rel=1e-5)
        assert [float(c) for c in row[4:]] == pytest.approx([effect.p, effect.p_adjusted], rel=5e-3)


def test_latex_of_a_factorial_is_well_formed():
    check_latex(written(compose(factorial()[0]), "latex"))


@EVERY
def test_the_expected_best_is_of_the_points_that_were_drawn(form):
    study = dataclasses.replace(facts(5, 4), drawn=[f"arm {i}" for i in range(1, 5)])
    means = [statistics.fmean(study.values_of(f"arm {i}", "loss").values()) for i in range(1, 5)]
    _, tables = read(study, form)
    rows = rows_under(tables, ["Points", "Expected best"])
    expected = [
        statistics.fmean(map(min, itertools.combinations(means, count))) for count in range(1, 5)
    ]
    assert [int(row[0]) for row in rows] == [1, 2, 3, 4]
    assert [float(row[1]) for row in rows] == pytest.approx(expected, rel=1e-5)


def test_points_that_lost_a_run_are_not_in_the_expected_best():
    study = facts(4, 3, lost=[(2, 1)])
    study = dataclasses.replace(study, drawn=[arm.name for arm in study.arms])
    text = written(compose(study), "md")
    assert "1 point without all runs left out" in text
    assert "Expected best" not in written(compose(dataclasses.replace(study, drawn=())), "md")


def test_a_winner_of_several_arms_has_to_be_confirmed():
    text = written(compose(facts(3, 6)), "md")
    assert "confirm it with seeds that no arm has had" in text
    assert "confirm it with seeds" not in written(compose(facts(2, 6)), "md")
