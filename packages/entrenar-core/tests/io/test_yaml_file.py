"""YAML configuration files: values, lines, and everything that is refused."""

import math
import os
from contextlib import suppress

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from entrenar_common.errors import ConfigError, FormatError, NotFoundError, RefusedError
from entrenar_core.io import yaml_file
from entrenar_core.io.yaml_file import Located, parse_value, parse_yaml, read_yaml


@pytest.fixture
def write(tmp_path):
    def write_text(content):
        path = tmp_path / "config.yaml"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write_text


# --- values -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [  # the table of YAML 1.2.2, section 10.3.2, with the traps of YAML 1.1
        ("1e-4", 1e-4),
        ("1.5E+3", 1500.0),
        (".5", 0.5),
        ("5.", 5.0),
        ("-.inf", -math.inf),
        ("1e400", math.inf),
        ("12", 12),
        ("-3", -3),
        ("010", 10),
        ("0o10", 8),
        ("0x1F", 31),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("NO", "NO"),
        ("on", "on"),
        ("12:30:00", "12:30:00"),
        ("2024-01-02", "2024-01-02"),
        ("1_000", "1_000"),
        ("'12'", "12"),
        ("1e-4x", "1e-4x"),
    ],
)
def test_a_scalar_is_read_by_the_core_schema_of_yaml_1_2(text, value):
    read = parse_yaml(f"key: {text}").data["key"]
    assert (read, type(read)) == (value, type(value))


def test_nan_is_read_as_a_number_for_the_schema_to_refuse():
    assert math.isnan(parse_yaml("key: .nan").data["key"])


def test_structures_agree_with_another_reader():
    text = "a: [1, two, {b: c}]\nd:\n  - e: |\n      text\n    f: &x 3\n  - *x\n'g': \"h\\n\"\n"
    assert parse_yaml(text).data == yaml.safe_load(text)


def test_an_empty_file_holds_nothing(write):
    assert read_yaml(write("# only a comment\n")).data is None


def test_a_byte_order_mark_is_not_part_of_the_first_key(write):
    assert read_yaml(write(b"\xef\xbb\xbfa: 1\n")).data == {"a": 1}


def test_keys_are_text_as_in_json():
    assert parse_yaml("0: cat\ntrue: dog").data == {"0": "cat", "true": "dog"}


def test_the_shared_loader_of_pyyaml_is_left_alone():
    parse_yaml("a: NO")
    assert yaml.safe_load("a: NO\nb: 1e-4") == {"a": False, "b": "1e-4"}


# --- lines ------------------------------------------------------------------------------------


def test_every_value_knows_its_line():
    located = parse_yaml("a: 1\nb:\n  c: 2\n\n  d:\n    - x\n    - y: z\n")
    paths = [("a",), ("b",), ("b", "c"), ("b", "d"), ("b", "d", 0), ("b", "d", 1, "y")]
    assert [located.line_of(path) for path in paths] == [1, 2, 3, 5, 6, 7]


def test_an_absent_value_has_no_line():
    assert parse_yaml("a: 1").line_of(("b",)) is None


def test_an_absent_value_is_looked_for_in_its_section():
    assert parse_yaml("a: 1\nb:\n  c: 2").where(("b", "x", "y")) == "line 2"


def test_an_origin_other_than_the_file_wins():
    located = Located("f", {}, {("a", "b"): 3}, {("a", "b"): "--set a.b", ("c", "d"): "--set c.d"})
    assert [located.where(p) for p in [("a", "b"), ("c",), ("e",)]] == [
        "--set a.b",
        "--set c.d",
        "",
    ]


# --- refused ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "a: !!python/object/apply:os.system [true]",
        "a: !!python/name:os.system",
        "!!python/object:x.Y {}: 1",
        "a: !mine 3",
        "a: !!binary aGk=",
        "a: !!set {b, c}",
        "a: !!timestamp 2024-01-02",
    ],
)
def test_a_tag_that_names_a_type_is_refused(text):
    with pytest.raises(RefusedError, match=r"<text>:1:\d+: the tag !"):
        parse_yaml(text)


@pytest.mark.tier2
def test_aliases_that_multiply_are_refused_unexpanded():
    """Expanded, these would be 9²⁹ words: nothing that ever ends."""
    bomb = "a0: &a0 [x, x]\n" + "".join(
        f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 30)
    )
    with pytest.raises(RefusedError, match="aliases"):
        parse_yaml(bomb)


def test_a_long_text_behind_many_aliases_is_refused():
    with pytest.raises(RefusedError, match="aliases"):
        parse_yaml(f"a: &a {'x' * 10_000}\nb: [{', '.join(['*a'] * 1_000)}]")


def test_an_alias_of_what_contains_it_is_refused():
    with pytest.raises(RefusedError, match="levels"):
        parse_yaml("a: &a [*a]")


@pytest.mark.tier2
def test_nesting_without_end_is_refused():
    with pytest.raises(RefusedError, match="levels"):
        parse_yaml("[" * 500_000)


def test_more_values_than_a_configuration_has_are_refused(monkeypatch):
    monkeypatch.setattr(yaml_file, "MAX_VALUES", 100)
    parse_yaml(f"[{', '.join(['0'] * 99)}]")
    with pytest.raises(RefusedError, match="100 values"):
        parse_yaml(f"[{', '.join(['0'] * 100)}]")


def test_a_key_given_twice_is_an_error_with_both_lines():
    with pytest.raises(ConfigError, match=r"<text>:4:3: x is given twice \(first on line 2\)"):
        parse_yaml("a:\n  x: 1\n  y: 2\n  x: 3\n")


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("a: 1\nb: [1, 2\nc: 3\n", "3:2"),
        ("a:\n\tb: 1\n", "2:1"),
        ("a: b: c\n", "1:5"),
        ("a: *.py\n", "1:5"),
        ("a: 1\n---\nb: 2\n", "2:1"),
        ("a: 1\nb: \x07\n", "2:4"),
        ("? [1, 2]\n: 3\n", "1:3"),
        ("a: !!bool yes\n", "1:4"),
        (f"a: {'9' * 5000}\n", "1:4"),
    ],
)
def test_what_is_not_yaml_is_an_error_that_names_the_place(text, place):
    with pytest.raises(ConfigError, match=f"<text>:{place}: ") as caught:
        parse_yaml(text)
    assert caught.value.hint


@pytest.mark.parametrize("escape", ["\\UFFFFFFFF", "\\uD800"])
def test_an_escape_that_is_no_character_is_an_error(escape):
    with pytest.raises(ConfigError, match="no such character"):
        parse_yaml(f'a: "{escape}"')


def test_text_that_is_not_utf8_is_an_error_with_the_byte(write):
    with pytest.raises(FormatError, match="byte 3 is not UTF-8"):
        read_yaml(write(b"a: \xff\n"))


def test_a_missing_file_is_not_found(tmp_path):
    with pytest.raises(NotFoundError, match=r"absent\.yaml") as caught:
        read_yaml(tmp_path / "absent.yaml")
    assert caught.value.hint


def test_a_folder_is_not_a_file(tmp_path):
    with pytest.raises(NotFoundError):
        read_yaml(tmp_path)


def test_a_pipe_is_refused_without_waiting_for_a_writer(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(NotFoundError):
        read_yaml(tmp_path / "pipe")


def test_a_device_without_end_is_refused():
    with pytest.raises(NotFoundError):
        read_yaml("/dev/zero")


def test_a_file_beyond_the_size_limit_is_refused(write):
    with pytest.raises(FormatError, match="larger than"):
        read_yaml(write("#" * (2**20 + 1)))


def test_a_name_with_control_characters_is_shown_escaped(tmp_path):
    path = tmp_path / "a\x1b[31m.yaml"
    path.write_text("a: [")
    with pytest.raises(ConfigError) as caught:
        read_yaml(path)
    assert "\x1b" not in str(caught.value)


@settings(deadline=None)
@given(st.text(alphabet="ab:-[]{}!&*?|>'\"%@`,#~.0123456789eE+ \n\t\\\\xuU\x00é", max_size=40))
def test_whatever_the_text_only_our_own_errors_come_out(text):
    for read in (parse_yaml, parse_value):
        with suppress(ConfigError, RefusedError):
            read(text)


# --- values from a command line ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3),
        ("3", 3),
        ("true", True),
        ("null", None),
        ("", None),
        ("*.py", "*.py"),
        ("a: b", "a: b"),
        ("'3'", "3"),
        ("[0, 2, 5]", [0, 2, 5]),
        ("{a: 1}", {"a": 1}),
    ],
)
def test_a_value_from_a_command_line_needs_no_quotes(text, value):
    assert parse_value(text) == value


def test_a_list_from_a_command_line_that_does_not_parse_is_an_error():
    with pytest.raises(ConfigError, match="value:1:"):
        parse_value("[1, 2")
