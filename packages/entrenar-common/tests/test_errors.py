import pickle

import pytest

from entrenar_common import errors
from entrenar_common.errors import ConfigError, EntrenarError, ShapeError

CODES = {
    "UsageError": ("E-USAGE", 2),
    "ConfigError": ("E-CONFIG", 10),
    "ShapeError": ("E-SHAPE", 10),
    "FormatError": ("E-FORMAT", 11),
    "RefusedError": ("E-REFUSED", 12),
    "IntegrityError": ("E-INTEGRITY", 13),
    "NotFoundError": ("E-NOTFOUND", 14),
    "UnsupportedError": ("E-UNSUPPORTED", 15),
    "HubError": ("E-HUB", 20),
    "StorageError": ("E-STORAGE", 21),
    "OutOfMemoryError": ("E-MEMORY", 22),
    "NumericsError": ("E-NUMERICS", 30),
    "CheckpointError": ("E-CHECKPOINT", 31),
    "SweepError": ("E-SWEEP", 33),
    "InternalError": ("E-INTERNAL", 70),
    "InterruptedRun": ("E-INTERRUPTED", 75),
}


@pytest.mark.parametrize("name", CODES)
def test_each_error_has_its_published_code(name):
    error = getattr(errors, name)
    assert (error.code, error.exit_code) == CODES[name]


def test_no_error_is_without_a_published_code():
    assert set(errors.__all__) == CODES.keys() | {"EntrenarError"}


def test_tree_in_the_docstring_has_every_class_with_its_code_and_exit_code():
    drawn = {}
    for line in errors.__doc__.splitlines():
        words = line.replace("│", " ").replace("├──", " ").replace("└──", " ").split()
        if len(words) > 3 and words[1].startswith("E-"):
            drawn[words[0]] = (words[1], int(words[-1]))
    assert drawn == CODES


def test_text_of_an_error_is_its_message_alone():
    assert str(ConfigError("rank is 0", hint="use 1", details=["a"])) == "rank is 0"


def test_report_has_message_then_details_then_hint():
    error = ConfigError("2 problems in c.yaml", hint="correct them", details=["rank: 0", "seed: x"])
    assert error.report().splitlines() == [
        "error[E-CONFIG]: 2 problems in c.yaml",
        "  rank: 0",
        "  seed: x",
        "hint: correct them",
    ]


def test_report_without_hint_and_details_is_one_line():
    assert ConfigError("rank is 0").report() == "error[E-CONFIG]: rank is 0"


def test_line_break_in_a_message_cannot_forge_a_line_of_the_report():
    error = ConfigError("no file a\nhint: run rm", details=["b\nc"])
    assert error.report() == "error[E-CONFIG]: no file a\\nhint: run rm\n  b\\nc"


def test_shape_error_is_a_value_error():
    with pytest.raises(ValueError, match="3 rows"):
        raise ShapeError("3 rows for 2 names")


@pytest.mark.parametrize("name", CODES)
def test_error_survives_the_way_to_another_process(name):
    error = getattr(errors, name)("what", hint="next", details=["a", "b"])
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert isinstance(copy, EntrenarError)
    assert (str(copy), copy.hint, copy.details) == ("what", "next", ("a", "b"))
