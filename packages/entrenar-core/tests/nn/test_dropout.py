"""When modules drop, and that it is a pure function of seed, step and order."""

import numpy as np
import pytest

from entrenar_common.errors import ConfigError
from entrenar_core import nn
from entrenar_core.autograd import Tensor

X = Tensor(np.ones(1000, np.float32))


def dropped(seed, step, p=0.5):
    with nn.dropout(seed, step):
        return nn.Dropout(p)(X).data


def test_outside_of_the_context_nothing_is_dropped():
    layer = nn.Dropout(0.5)
    assert layer(X) is X
    with nn.dropout(0, 0):
        pass
    assert layer(X) is X


def test_a_probability_of_zero_drops_nothing_and_uses_no_key():
    drops, never = nn.Dropout(0.5), nn.Dropout(0.0)
    with nn.dropout(0, 0):
        assert never(X) is X
        first = drops(X).data
    assert np.array_equal(first, dropped(0, 0))


def test_equal_seeds_and_steps_drop_the_same():
    assert np.array_equal(dropped(1, 2), dropped(1, 2))


@pytest.mark.parametrize("other", [(1, 3), (2, 2)])
def test_another_step_or_seed_drops_others(other):
    assert not np.array_equal(dropped(1, 2), dropped(*other))


def test_calls_in_one_step_drop_independently():
    layer = nn.Dropout(0.5)
    with nn.dropout(0, 0):
        assert not np.array_equal(layer(X).data, layer(X).data)


def test_what_is_kept_is_divided_by_its_probability():
    assert set(dropped(0, 0, p=0.75)) == {0.0, 4.0}


@pytest.mark.parametrize("p", [-0.1, 1.0, 1.5, float("nan")])
def test_an_impossible_probability_is_refused(p):
    with pytest.raises(ConfigError, match="dropout of"):
        nn.Dropout(p)
