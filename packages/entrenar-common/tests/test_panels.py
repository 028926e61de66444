"""Loss curves as text."""

import math

import pytest

from entrenar_common.panels import panels

BRAILLE = range(0x2801, 0x2900)


def drawn(lines):
    """The cells that hold ink, as (column, row) of the plot."""
    return {
        (column, row)
        for row, line in enumerate(lines[1:-2])
        for column, char in enumerate(line)
        if ord(char) in BRAILLE
    }


def test_a_falling_line_goes_from_the_upper_left_to_the_lower_right():
    lines = panels({"loss": [(i, 10.0 - i) for i in range(11)]}, width=40, height=5)
    cells = sorted(drawn(lines))
    rows = [row for _, row in cells]
    assert rows == sorted(rows)
    assert (rows[0], rows[-1]) == (0, 4)
    assert len({column for column, _ in cells}) == cells[-1][0] - cells[0][0] + 1


def test_the_axes_carry_the_scale_and_the_steps():
    lines = panels({"loss": [(1, 8.0), (250, 3.0)]}, width=40, height=5)
    assert lines[1].lstrip().startswith("8.00")
    assert lines[5].lstrip().startswith("3.00")
    assert lines[-1].split() == ["1", "250"]
    assert "loss 8 → 3" in lines[0]


def test_neighbouring_values_are_joined_however_far_apart():
    lines = panels({"loss": [(i, float(i % 2)) for i in range(30)]}, width=20, height=6)
    rows_of_one_column = {row for column, row in drawn(lines) if column == 10}
    assert rows_of_one_column == set(range(6))


def test_series_share_one_scale():
    lines = panels({"high": [(0, 9.0), (1, 9.0)], "low": [(0, 1.0), (1, 1.0)]}, width=60, height=4)
    rows = {row for _, row in drawn(lines)}
    assert rows == {0, 3}


@pytest.mark.parametrize("series", range(1, 8))
@pytest.mark.parametrize("width", [24, 40, 78, 120])
def test_no_line_is_wider_than_asked_and_every_series_is_there(series, width):
    names = [f"run{i}" for i in range(series)]
    lines = panels({name: [(0, 5.0), (9, 1.0)] for name in names}, width=width)
    assert max(map(len, lines)) <= width
    assert all(any(name in line for line in lines) for name in names)


def test_what_is_not_finite_is_left_out():
    points = [(0, 4.0), (1, math.nan), (2, math.inf), (3, 2.0)]
    assert panels({"loss": points}) == panels({"loss": [(0, 4.0), (3, 2.0)]})


@pytest.mark.parametrize("points", [{}, {"loss": []}, {"loss": [(0, math.nan)]}])
def test_without_a_value_there_is_one_line_that_says_so(points):
    assert panels(points) == ["(no finite loss to draw)"]


@pytest.mark.parametrize("value", [0.0, 3.0, -2.0, 1e-12, 1e12])
def test_a_single_value_is_drawn_in_the_middle(value):
    lines = panels({"loss": [(7, value)]}, width=40, height=5)
    assert {row for _, row in drawn(lines)} == {2}


def test_many_points_are_averaged_over_each_dot():
    noisy = [(i, 5.0 + (-1) ** i) for i in range(10_000)]
    lines = panels({"loss": [*noisy, (10_000, 0.0)]}, width=40, height=8)
    assert len({row for column, row in drawn(lines) if column < 30}) == 1
