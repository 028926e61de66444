"""docs/config.md and docs/train.md are what the schemas say."""

import importlib.util
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[3] / "docs"


@pytest.mark.parametrize("name", ["config.md", "train.md"])
def test_the_page_of_the_keys_is_up_to_date(name):
    spec = importlib.util.spec_from_file_location("generate_config", DOCS / "generate_config.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert (DOCS / name).read_text("utf-8") == module.pages()[name], "run `make docs`"
