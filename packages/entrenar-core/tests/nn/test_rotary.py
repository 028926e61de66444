"""Rotary tables: the definition, and which of them may be kept."""

import numpy as np
import pytest

from entrenar_common.errors import ConfigError, UnsupportedError
from entrenar_core.nn import Rotary
from entrenar_core.testing import difference

DEFAULT = {"rope_type": "default", "rope_theta": 100.0}
DYNAMIC = {"rope_type": "dynamic", "rope_theta": 100.0, "factor": 2.0}


def angles(start, stop, dim, theta):
    inverse = 1 / theta ** (np.arange(0, dim, 2) / dim)
    return np.arange(start, stop)[:, None] * inverse


@pytest.mark.parametrize(("start", "stop"), [(0, 5), (3, 4), (0, 300), (290, 300)])
def test_tables_are_cosine_and_sine_of_position_times_frequency(start, stop):
    rotary = Rotary(8, DEFAULT, 512)
    cos, sin = rotary.tables(start, stop, np.float64)
    wanted = angles(start, stop, 8, 100.0)
    # angles are rounded to float32, as in the reference implementation: 300 · 6e-8
    assert np.abs(cos - np.cos(wanted)).max() <= 4e-5
    assert np.abs(sin - np.sin(wanted)).max() <= 4e-5


@pytest.mark.parametrize("parameters", [DEFAULT, DYNAMIC])
@pytest.mark.parametrize("maximum", [16, 300])
def test_tables_do_not_depend_on_what_was_asked_for_before(parameters, maximum):
    used = Rotary(8, parameters, maximum)
    for stop in (3, 12, 40, 280, 5, 12):
        for start in (0, stop - 1):
            fresh = Rotary(8, parameters, maximum).tables(start, stop, np.float32)
            for found, wanted in zip(used.tables(start, stop, np.float32), fresh, strict=True):
                assert np.array_equal(found, wanted)


@pytest.mark.parametrize("stop", [2, 16])
def test_dynamic_scaling_leaves_the_trained_positions_alone(stop):
    plain = Rotary(8, DEFAULT, 16).tables(0, stop, np.float32)
    scaled = Rotary(8, DYNAMIC, 16).tables(0, stop, np.float32)
    assert difference(scaled[1], plain[1]) == 0.0


@pytest.mark.parametrize("stop", [17, 40, 500])
def test_dynamic_scaling_stretches_theta_beyond_the_trained_positions(stop):
    theta = 100.0 * (2.0 * stop / 16 - 1.0) ** (8 / 6)
    cos, _ = Rotary(8, DYNAMIC, 16).tables(0, stop, np.float64)
    assert np.abs(cos - np.cos(angles(0, stop, 8, theta))).max() <= 6e-5


def test_tables_come_in_the_type_that_is_asked_for():
    rotary = Rotary(8, DEFAULT, 16)
    for dtype in (np.float32, np.float64, np.float32):
        assert rotary.tables(0, 4, dtype)[0].dtype == dtype


def test_an_odd_head_is_refused():
    with pytest.raises(ConfigError, match="head_dim 5 is odd"):
        Rotary(5, DEFAULT, 16)


def test_an_unknown_kind_is_refused_with_the_known_ones():
    with pytest.raises(UnsupportedError, match="'su'") as caught:
        Rotary(8, {"rope_type": "su"}, 16)
    assert "yarn" in caught.value.hint


@pytest.mark.parametrize("parameters", [DEFAULT, DYNAMIC])
def test_tables_of_positions_are_those_of_each_sequence(parameters):
    positions = np.array([[0, 0, 1, 2], [20, 21, 22, 23], [5, 6, 7, 8]])
    cos, sin = Rotary(8, parameters, 16).at(positions, np.float32)
    assert cos.shape == sin.shape == (3, 4, 4)
    for row, found_cos, found_sin in zip(positions, cos, sin, strict=True):
        alone = Rotary(8, parameters, 16).tables(0, row[-1] + 1, np.float32)
        assert np.array_equal(found_cos, alone[0][row])
        assert np.array_equal(found_sin, alone[1][row])
