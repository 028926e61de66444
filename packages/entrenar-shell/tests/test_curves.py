"""`plot loss`: what a training has logged, as a curve."""

import json

import pytest

from entrenar_common.errors import FormatError
from entrenar_common.plot import ASCII
from entrenar_common.testing import render_plain
from entrenar_shell.curves import Drawn, curves

STEPS = 21


@pytest.fixture
def log(tmp_path):
    """Two phases: a loss that falls by a straight line with a step that was not finite, measured
    on held-out text at its end, and one that stays."""
    lines = [{"phase": "student", "step": n, "loss": 5.0 - n / 10} for n in range(1, STEPS + 1)]
    lines[4]["loss"] = None
    lines[-1]["held_out_loss"] = 3.5
    lines += [{"phase": "control", "step": n, "loss": 2.0} for n in (1, 2)]
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_each_phase_has_its_finite_losses_and_held_out_ones(log):
    student, control = curves(log).curves
    assert (student.phase, len(student.steps), 5 in student.steps) == ("student", STEPS - 1, False)
    assert student.losses == pytest.approx([5.0 - n / 10 for n in student.steps])
    assert student.held_out == ((STEPS, 3.5),)
    assert (control.steps, control.losses, control.held_out) == ((1, 2), (2.0, 2.0), ())


def test_a_falling_loss_is_drawn_from_the_upper_left_to_the_lower_right(log):
    shown = render_plain(Drawn(curves(log), ASCII, 9)).splitlines()
    assert shown[0] == "student: loss 4.9 at step 1, 2.9 at step 21; o held out 3.5"
    rows = [line.partition("|")[2] for line in shown[1:10]]
    assert shown[1].startswith("4.90 |") and shown[9].startswith("2.90 |")
    lefts = [row.index("*") for row in rows]
    assert lefts == sorted(lefts)
    assert (rows[0][0], rows[-1][-1]) == ("*", "*")
    assert [row.count("o") for row in rows] == [0, 0, 0, 0, 0, 0, 1, 0, 0]  # 3.5 of 4.9 to 2.9
    assert shown[11].split() == ["1", "21"]


def test_what_is_no_log_is_refused_with_its_line(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"phase": "student", "step": 1, "loss": 1}\nx\n')
    with pytest.raises(FormatError, match=r"metrics.jsonl:2: not a line of a training log"):
        curves(tmp_path / "metrics.jsonl")
