import doctest
import importlib

import pytest


@pytest.mark.parametrize("name", ["cells", "console", "errors", "progress", "text", "units"])
def test_examples_in_docstrings_are_true(name):
    failed, tried = doctest.testmod(importlib.import_module(f"entrenar_common.{name}"))
    assert tried > 0
    assert failed == 0
