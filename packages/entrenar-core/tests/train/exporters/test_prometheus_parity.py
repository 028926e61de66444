"""Both formats as Prometheus' own client for Python reads them."""

import math

import pytest

from entrenar_core.train.exporters.measures import Figures
from entrenar_core.train.exporters.prometheus_text import OPEN_METRICS, TEXT, Series, exposition

pytestmark = pytest.mark.parity

PHASE = 'a "phase" of\\two\nlines'


@pytest.mark.parametrize(
    ("parser", "content_type"),
    [("prometheus_client.parser", TEXT), ("prometheus_client.openmetrics.parser", OPEN_METRICS)],
)
def test_the_text_is_read_as_the_figures_that_it_is_of(parser, content_type):
    read = pytest.importorskip(parser).text_string_to_metric_families
    figures = Figures()
    figures.step(
        {"step": 1, "loss": 0.1, "grad_norm": math.nan, "tokens": 8, "skipped": True, "seconds": 2}
    )
    figures.step({"step": 2, "loss": math.inf, "tokens": 8, "held_out_loss": 1e-300, "seconds": 3})
    text = exposition(
        [Series("over", {}, figures.totals), Series(PHASE, figures.gauges, figures.totals)],
        content_type=content_type,
        run_id="r",
        resident=12345,
    )
    families = {family.name: family for family in read(text)}
    kinds = {family.type for family in families.values()}
    assert kinds == {"gauge", "counter"} | ({"info"} if content_type == OPEN_METRICS else set())
    found = {
        (sample.name.removeprefix("entrenar_training_"), sample.labels.get("phase")): sample.value
        for family in families.values()
        for sample in family.samples
    }
    assert math.isnan(found.pop(("gradient_norm", PHASE)))
    assert found == {
        ("info", None): 1,
        ("loss", PHASE): math.inf,
        ("held_out_loss", PHASE): 1e-300,
        ("step", PHASE): 2,
        ("step_duration_seconds", PHASE): 3,
        ("resident_memory_bytes", None): 12345,
        ("tokens_total", "over"): 16,
        ("tokens_total", PHASE): 16,
        ("steps_total", "over"): 2,
        ("steps_total", PHASE): 2,
        ("skipped_steps_total", "over"): 1,
        ("skipped_steps_total", PHASE): 1,
    }
