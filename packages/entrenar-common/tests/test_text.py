import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrenar_common.text import escape_controls, nearest


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("model.layers.0.weight", "model.layers.0.weight"),
        ("naïve 模型 мир", "naïve 模型 мир"),
        ("a\nb\tc\r", r"a\nb\tc\r"),
        ("\x1b[2J", r"\x1b[2J"),
        ("\x7f\x9b", r"\x7f\x9b"),
        ("safe\u202egnp.exe", r"safe\u202egnp.exe"),
        ("a\u200bb\ufeff", r"a\u200bb\ufeff"),
        ("line\u2028break", r"line\u2028break"),
        ("not utf-8: \udcff", r"not utf-8: \udcff"),
        ("tag \U000e0041", r"tag \U000e0041"),
        ("wide\u3000space", "wide\u3000space"),
    ],
)
def test_what_steers_a_terminal_is_shown_escaped(text, shown):
    assert escape_controls(text) == shown


@given(st.text(st.characters()))
def test_escaped_text_has_no_control_left_and_stays_when_escaped_again(text):
    shown = escape_controls(text)
    left = {unicodedata.category(char) for char in shown} & {"Cc", "Cf", "Cs", "Zl", "Zp"}
    assert not left
    assert escape_controls(shown) == shown
    shown.encode()


@pytest.mark.parametrize(
    ("name", "found"),
    [("temprature", "temperature"), ("ALPHA", "Alpha"), ("zzz", None), ("", None)],
)
def test_nearest_name_is_found_when_there_is_one(name, found):
    assert nearest(name, ["Alpha", "temperature", "seed"]) == found


def test_nothing_is_nearest_of_no_names():
    assert nearest("alpha", []) is None
