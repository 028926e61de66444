"""The keys of the section `observe` about what goes wrong and where time goes."""

import pytest

from entrenar_core.train.anomalies import AnomalyDetector
from entrenar_core.train.observe import ObserveSection, callbacks_of
from entrenar_core.train.sampling_profiler import SamplingProfiler


@pytest.mark.parametrize(
    ("key", "kind"), [("anomalies", AnomalyDetector), ("profile", SamplingProfiler)]
)
def test_a_section_that_is_there_makes_a_callback(tmp_path, key, kind):
    section = ObserveSection.model_validate({key: {}})
    (callback,) = callbacks_of(section, tmp_path, warn=pytest.fail)
    assert isinstance(callback, kind)


def test_neither_is_done_unless_it_is_asked_for(tmp_path):
    assert callbacks_of(ObserveSection(), tmp_path, warn=pytest.fail) == []
