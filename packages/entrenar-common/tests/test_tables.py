import enum
import io
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrenar_common.cells import format_cell, is_numeric
from entrenar_common.console import make_console
from entrenar_common.errors import InternalError, ShapeError
from entrenar_common.tables import Bar, Fields, Table, Text, render, to_json, to_plain
from entrenar_common.testing import render_plain


class Kind(enum.Enum):
    TIES = "ties"


class ArrayLike:
    """Has what NumPy's arrays and scalars have for this purpose."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def tolist(self) -> Any:
        return self.value


@dataclass
class Layer:
    name: str
    size_mb: float


@dataclass
class Model:
    model_name: str
    parameters: int
    layers: list[Layer] = field(default_factory=list)


@dataclass
class Shown:
    parts: list[Any]

    def __view__(self) -> list[Any]:
        return self.parts


def test_record_without_a_view_is_shown_as_its_fields_and_tables():
    model = Model("llama", 1234, [Layer("embed", 1.5), Layer("lm_head", 12.25)])
    assert render_plain(model).splitlines() == [
        "model name  llama",
        "parameters  1234",
        "",
        "layers",
        "╭─────────┬─────────╮",
        "│ name    │ size mb │",
        "├─────────┼─────────┤",
        "│ embed   │     1.5 │",
        "│ lm_head │   12.25 │",
        "╰─────────┴─────────╯",
    ]


def test_record_in_a_record_is_shown_under_the_name_of_its_field():
    @dataclass
    class Outer:
        seed: int
        first_layer: Layer

    assert render_plain(Outer(3, Layer("embed", 1.5))).splitlines() == [
        "seed  3",
        "",
        "first layer",
        "  name     embed",
        "  size mb  1.5",
    ]


def test_view_decides_what_is_shown_and_paragraphs_stay_together():
    parts = [Text("one"), Text("two", "good"), Fields("Sizes", [("a", "1.0 GB"), ("b", "12.5 GB")])]
    assert render_plain(Shown(parts)).splitlines() == [
        "one",
        "two",
        "",
        "Sizes",
        "  a   1.0 GB",
        "  b  12.5 GB",
    ]


def test_records_in_a_view_are_replaced_by_their_parts():
    assert render_plain(Shown([Shown([Text("inner")]), Layer("x", 1.0)])) == (
        "inner\n\nname     x\nsize mb  1\n"
    )


def test_long_cells_fold_and_numbers_stay_whole():
    name = "model.layers.10.self_attn.q_proj.weight"
    table = Table("T", ["tensor", "size"], [[name, "12.5 MB"], ["b", "1.0 MB"]], caption="2 of 2")
    assert render_plain(table, width=32).splitlines() == [
        "T",
        "╭────────────────────┬─────────╮",
        "│ tensor             │    size │",
        "├────────────────────┼─────────┤",
        "│ model.layers.10.se │ 12.5 MB │",
        "│ lf_attn.q_proj.wei │         │",
        "│ ght                │         │",
        "│ b                  │  1.0 MB │",
        "╰────────────────────┴─────────╯",
        "2 of 2",
    ]


@pytest.mark.tier2
@given(st.lists(st.text("ab.", min_size=1, max_size=60), min_size=1, max_size=4))
def test_folding_loses_no_character_and_keeps_the_width(names):
    lines = render_plain(Table(None, ["n", "m"], [[n, n] for n in names]), width=30).splitlines()
    assert max(map(len, lines)) <= 30
    shown = "".join(line.split("│")[1].strip() for line in lines[3:-1])
    assert shown == "".join(names)


def test_table_of_numbers_wider_than_the_console_folds_too():
    table = Table(None, list("abcdef"), [["123456789"] * 6])
    shown = render_plain(table, width=40).splitlines()
    digits = ["".join(line.split("│")[i].strip() for line in shown[3:-1]) for i in range(1, 7)]
    assert digits == ["123456789"] * 6
    assert max(map(len, shown)) <= 40


def test_table_without_rows_says_so():
    assert render_plain(Table("Problems", ["path"], [])) == "Problems\n(none)\n"


def test_a_bar_has_columns_for_each_share_and_a_legend():
    parts = [("one", 0.5), ("two", 0.3), ("next to nothing", 0.001), ("three", 0.199)]
    bar, legend = render_plain(Shown([Bar(parts)]), width=40).splitlines()
    assert bar == "█" * 20 + "▓" * 12 + "▒" * 8
    assert legend == "█ one 50%   ▓ two 30%   ▒ three 20%"


@pytest.mark.parametrize("count", [1, 3, 7, 11])
def test_the_parts_of_a_bar_fill_it(count):
    bar, *legend = render_plain(Shown([Bar([("x", 1 / count)] * count)])).splitlines()
    assert len(bar) == 72
    assert " ".join(legend).count("x") == count


def test_a_bar_is_ascii_where_the_encoding_has_no_blocks():
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    render(Shown([Bar([("one", 0.75), ("two", 0.25)])]), make_console(stream, width=40))
    stream.seek(0)
    bar, legend = stream.read().splitlines()
    assert bar == "#" * 30 + "=" * 10
    assert legend == "# one 75%   = two 25%"


def test_markup_and_control_characters_are_shown_as_they_are():
    table = Table("[b]t[/b]", ["n:smile:"], [["[red]a[/red]\x1b[2J\n"]], caption="\x07")
    assert render_plain(Shown([table, Fields("\u202ef", [("k\t", "v\r")]), Text("x\x1by\nz")])) == (
        "[b]t[/b]\n"
        "╭───────────────────────╮\n"
        "│ n:smile:              │\n"
        "├───────────────────────┤\n"
        "│ [red]a[/red]\\x1b[2J\\n │\n"
        "╰───────────────────────╯\n"
        "\\x07\n"
        "\n"
        "\\u202ef\n"
        "  k\\t  v\\r\n"
        "\n"
        "x\\x1by\n"
        "z\n"
    )


def test_row_of_the_wrong_length_is_refused():
    with pytest.raises(ShapeError, match="row 1 of the table 'T' has 1 cells for 2 columns"):
        Table("T", ["a", "b"], [[1, 2], [3]])


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (True, "yes"),
        (False, "no"),
        (12, "12"),
        (0.1 + 0.2, "0.3"),
        (math.nan, "nan"),
        ((2, 3), "2, 3"),
        ([], "–"),
        ({"a": 1.5}, "a: 1.5"),
        (Kind.TIES, "ties"),
        (Path("a/b"), "a/b"),
        (ArrayLike(0.5), "0.5"),
        ("a\nb", r"a\nb"),
    ],
)
def test_value_in_a_cell_reads_as_people_write_it(value, text):
    assert format_cell(value) == text


@pytest.mark.parametrize(
    ("cells", "numeric"),
    [
        (["1", "–", ""], True),
        (["1.2 GB", "999 B"], True),
        (["1.23M", "98.5%", "-3e-05"], True),
        (["2m 05s", "12ms"], True),
        (["12.3K tokens/s", "1.5×", "×2", "nan"], True),
        (["–", ""], False),
        (["1", "one"], False),
        (["2024-01-01"], False),
        (["3, 4"], False),
    ],
)
def test_column_is_numeric_when_each_cell_is_a_number(cells, numeric):
    assert is_numeric(cells) is numeric


def test_json_has_the_fields_and_not_the_view():
    assert to_plain(Shown([Path("x"), Kind.TIES, (1, 2), {3: ArrayLike([4.0])}, {"b", "a"}])) == {
        "parts": ["x", "ties", [1, 2], {"3": [4.0]}, ["a", "b"]]
    }


def test_json_has_null_for_numbers_that_are_not_finite():
    text = to_json(Shown([math.nan, -math.inf, ArrayLike([1.0, math.inf]), 2.5]))
    assert json.loads(text) == {"parts": [None, None, [1.0, None], 2.5]}


def test_json_is_ascii_so_that_no_name_steers_the_terminal():
    assert to_json("\x1b\u202e\x9b\udcff") == r'"\u001b\u202e\u009b\udcff"'


def test_value_without_a_json_form_is_a_bug():
    with pytest.raises(InternalError, match="type complex"):
        to_json(Shown([1j]))
