"""What a training looks like on a terminal: series, plots and the view, as text."""

import io
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from entrenar_common.console import make_console
from entrenar_common.plot import ASCII, UNICODE, plot, sparkline
from entrenar_common.series import Curve, Series
from entrenar_common.text import escape_controls
from entrenar_common.training_view import Remark, TrainingState, render


class Terminal(io.StringIO):
    def __init__(self, encoding="utf-8"):
        super().__init__()
        self._encoding = encoding

    @property
    def encoding(self):
        return self._encoding

    def isatty(self):
        return True


def drawn(state, width=80, height=24, *, encoding="utf-8", color=False):
    stream = Terminal(encoding)
    console = make_console(stream, color=color, width=width)
    console.print(render(state, width, height), end="", soft_wrap=True)
    return stream.getvalue().split("\n")


def curve(values, first=1):
    series = Series()
    for step, value in enumerate(values, first):
        series.add(step, value)
    return series.curve()


def example(**changes):
    """A training after 4 of 10 steps, that was evaluated twice."""
    held_out = Series()
    held_out.add(2, 3.5)
    held_out.add(4, 3.25)
    fields = {
        "phase": "student",
        "step": 4,
        "first_step": 0,
        "total_steps": 10,
        "steps_per_epoch": 8.0,
        "elapsed": 20.0,
        "loss": curve([4.0, 3.0, 2.0, 2.5]),
        "held_out": held_out.curve(),
        "learning_rate": curve([1e-4, 2e-4, 3e-4, 3e-4]),
        "grad_norm": curve([1.0, 8.0, 1.0, 1.5]),
        "tokens_per_second": curve([12_000, 12_300, 12_400, 12_345]),
        "memory": curve([1.0e9, 1.1e9, 1.2e9, 1.2e9]),
    }
    return TrainingState(**(fields | changes))


# ---- series ------------------------------------------------------------------------------------


@given(
    st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=200),
    st.integers(1, 20),
    st.integers(0, 1000),
)
def test_series_in_bounded_memory_keeps_mean_peak_least_and_last(values, capacity, first):
    series = Series(capacity)
    for step, value in enumerate(values, first):
        series.add(step, value)
    found = series.curve()
    assert 1 <= len(found.points) <= capacity
    assert max(top for _, _, top in found.points) == max(values)
    assert found.least == (first + values.index(min(values)), min(values))
    assert found.last == values[-1]
    assert found.points[0][0] == first
    steps = [step for step, _, _ in found.points]
    assert steps == sorted(set(steps))
    for (step, mean, _), after in zip(found.points, [*steps[1:], first + len(values)], strict=True):
        own = values[step - first : after - first]
        assert mean == pytest.approx(math.fsum(own) / len(own), rel=1e-9, abs=1e-6)


def test_series_draws_nothing_of_what_is_not_finite():
    series = Series()
    for step, value in enumerate([None, math.nan, math.inf, -math.inf, 1e308], 1):
        series.add(step, value)
    assert series.curve() == Curve((), 1e308, None)


# ---- plots -------------------------------------------------------------------------------------


def test_plot_joins_the_points_and_marks_single_ones():
    line, marks = [(0, 0.0), (8, 8.0)], [(4, 8.0)]
    shown = plot(
        line, marks, columns=9, rows=9, steps=(0, 8), scale=(0.0, 8.0), glyphs=ASCII
    )  # fmt: skip
    rows = [[" "] * 9 for _ in range(9)]
    for i in range(9):
        rows[8 - i][i] = "*"
    rows[0][4] = "o"
    assert shown == ["".join(row) for row in rows]


def test_plot_in_braille_has_two_by_four_dots_in_a_character():
    line = [(i, v) for i, v in enumerate([3.0, 2.0, 1.0, 0.0])]
    shown = plot(line, [], columns=2, rows=1, steps=(0, 3), scale=(0.0, 3.0), glyphs=UNICODE)
    # dots 1 and 5 of the first character, 3 and 8 of the second; https://www.unicode.org/charts/PDF/U2800.pdf
    assert shown == [chr(0x2800 + 0x01 + 0x10) + chr(0x2800 + 0x04 + 0x80)]


def test_sparkline_shows_the_peak_of_each_column():
    points = [(step, 9.0 if step == 50 else 2.0) for step in range(100)]
    shown = sparkline(points, 10, glyphs=ASCII)
    assert len(shown) == 10
    assert sorted(shown) == sorted("_" * 9 + "#")


# ---- the view ----------------------------------------------------------------------------------


def test_view_says_phase_steps_epochs_time_and_what_is_left():
    title, bar, *_ = drawn(example())
    assert title == "student  step 4/10 (40%)  epoch 0.50/1.25  20s, 30s left"
    assert bar == "━" * 32 + "─" * 48


def test_view_says_the_loss_and_that_of_what_is_held_out():
    assert drawn(example())[3] == "loss 2.500   ● held-out 3.250 at step 4, best 3.250 at 4"


def test_view_marks_held_out_losses_on_the_curve():
    lines = drawn(example())
    plotted = lines[4 : lines.index(next(line for line in lines if "└" in line))]
    assert sum(line.count("●") for line in plotted) == 2
    assert plotted[0].startswith("4.00 ┤")
    assert plotted[-1].startswith("2.00 ┤")


def test_view_has_a_line_for_each_reading():
    lines = drawn(example())
    assert [line.rstrip() for line in lines if line.startswith(("lea", "gra", "tok", "pea"))] == [
        "learning rate    0.0003 ▁▅██",
        "gradient norm     1.500 ▁█▁▂",
        "tokens/s          12.3K ▁▆█▇",
        "peak memory      1.2 GB ▁▅██",
    ]


def test_view_on_a_wide_terminal_has_two_readings_beside_each_other():
    lines = drawn(example(), width=200)
    [line] = [line for line in lines if line.startswith("learning rate")]
    assert line[:28] == "learning rate    0.0003 ▁▅██"
    assert line[100:].rstrip() == "gradient norm     1.500 ▁█▁▂"


def test_view_fills_the_terminal_and_no_more():
    assert len(drawn(example())) == 24
    assert len(drawn(example(), height=50)) == 50


def test_view_says_what_was_noticed_with_a_mark_that_needs_no_colour():
    remark = Remark(3, "spike: gradient norm 8, usually 1", "!", "warning")
    lines = drawn(example(remarks=[remark], skipped=2, saved=2))
    assert lines[-2:] == [
        "! step 3: spike: gradient norm 8, usually 1",
        "  saved at step 2, 2 steps skipped, not finite",
    ]


def test_view_has_no_escape_sequence_without_colour_and_some_with():
    assert "\x1b" not in "".join(drawn(example()))
    assert "\x1b[" in "".join(drawn(example(), color=True))


def test_view_shows_control_characters_escaped():
    remark = Remark(1, "a\x1b[2Jb\nc", "!", "warning")
    lines = drawn(example(phase="st\x1b]0;x\x07u", remarks=[remark]))
    assert lines[0].startswith(r"st\x1b]0;x\x07u  step")
    assert lines[-1] == r"! step 1: a\x1b[2Jb\nc"


def test_view_is_ascii_where_the_encoding_is_not_utf_8():
    lines = drawn(example(phase="größe", saved=3), encoding="latin-1")
    assert all(line.isascii() for line in lines)
    assert lines[0].startswith(r"gr\xf6\xdfe  step 4/10")
    assert lines[1] == "#" * 32 + "-" * 48


def test_view_before_the_first_step_and_without_a_finite_loss():
    first = example(step=0, loss=Curve(), held_out=Curve(), elapsed=1.0)
    lines = drawn(first)
    assert lines[0] == "student  step 0/10 (0%)  epoch 0.00/1.25  1s"
    assert lines[4] == "waiting for the first step"
    assert drawn(example(loss=curve([math.nan])))[4] == "no finite loss yet"


def test_time_that_is_left_is_by_the_steps_of_this_process():
    resumed = example(first_step=2, elapsed=10.0)
    assert resumed.seconds_left == pytest.approx(30.0)
    assert example(step=10).seconds_left is None


NUMBERS = st.one_of(st.floats(), st.floats(0, 10), st.none())
CURVES = st.lists(NUMBERS, max_size=40).map(curve)
STATES = st.builds(
    TrainingState,
    phase=st.text(max_size=40),
    step=st.integers(0, 10**7),
    first_step=st.integers(0, 10),
    total_steps=st.integers(0, 10**7),
    steps_per_epoch=st.one_of(st.floats(), st.floats(0.1, 100)),
    elapsed=st.floats(0, 1e7),
    loss=CURVES,
    held_out=CURVES,
    learning_rate=CURVES,
    grad_norm=CURVES,
    tokens_per_second=CURVES,
    memory=CURVES,
    remarks=st.lists(st.builds(Remark, st.integers(0, 9), st.text(max_size=300)), max_size=9),
    skipped=st.integers(0, 3),
    saved=st.none() | st.integers(0, 9),
)


@pytest.mark.tier2
@settings(max_examples=60, deadline=None)
@given(STATES, st.integers(1, 210), st.integers(1, 60), st.sampled_from(["utf-8", "ascii"]))
def test_any_state_fits_any_terminal(state, width, height, encoding):
    lines = drawn(state, width, height, encoding=encoding)
    assert len(lines) <= height
    assert max(map(cell_len, lines)) <= width
    assert [escape_controls(line) for line in lines] == lines
