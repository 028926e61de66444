"""docs/config.md is what the schema says."""

import importlib.util
from pathlib import Path

DOCS = Path(__file__).parents[3] / "docs"


def test_the_page_of_the_keys_is_up_to_date():
    spec = importlib.util.spec_from_file_location("generate_config", DOCS / "generate_config.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert (DOCS / "config.md").read_text("utf-8") == module.page(), "run `make docs`"
