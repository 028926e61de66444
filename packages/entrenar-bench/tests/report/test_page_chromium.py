"""The page of a report in a browser: on a desk and a telephone, light and dark."""

import dataclasses

import pytest

from chromium import browser
from entrenar_bench.report.compose import compose
from entrenar_bench.report.write import written
from entrenar_bench.statistics import factorial_effects
from page_checks import check
from report_samples import facts

pytestmark = pytest.mark.conformance


def test_a_report_is_whole_and_readable_on_every_screen(tmp_path, capsys):
    """Of a study with lost runs, long names, a factorial's effects and points drawn at random."""
    name = "learning_rate=0.000{},temperature=4.62"
    study = facts(4, 6, lost=[(1, 2)], not_finite=[(2, 3)], name=name)
    names = [arm.name for arm in study.arms]
    taken_out = dict(zip(names, [(), ("a",), ("b",), ("a", "b")], strict=True))
    values = {arm: study.values_of(arm, "loss") for arm in names}
    study = dataclasses.replace(
        study,
        effects=[factorial_effects(values, taken_out, metric="loss")],
        drawn=names,
        made_by=["entrenar-bench sweep --config distill.yaml " + "--param alpha=0.3,0.5 " * 12],
    )
    document = compose(study)
    page = tmp_path / "report.html"
    page.write_text(written(document, "html"), encoding="utf-8")
    sections = [section.title for section in document.sections]
    with browser(tmp_path) as opened:
        folder = check(opened, page, "report", sections=sections, figures=6)
    with capsys.disabled():
        print(f"\nscreenshots of a report: {folder}")
