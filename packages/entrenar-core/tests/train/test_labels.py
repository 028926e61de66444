"""Labels of a data set as numbers of classes."""

import pytest

from entrenar_common.errors import ConfigError
from entrenar_core.train.declarative.labels import Classes


def test_classes_of_a_model_go_by_their_names_or_their_numbers():
    assert Classes("y", ("neg", "pos"))(["pos", 0, "1", "neg"]).tolist() == [1, 0, 1, 0]


def test_classes_that_the_data_names_go_by_these_alone():
    """3 and 5 are classes; 0, which is the number of the first, is no value of theirs."""
    classes = Classes("y")
    assert classes([5, 3, 5]).tolist() == [1, 0, 1]
    with pytest.raises(ConfigError, match="'0' is none of the 2 classes"):
        classes([0])
