"""The budget of steps that are lost to NaN and infinity."""

from entrenar_common.errors import NumericsError
from entrenar_core.train.numerics import NonFiniteBudget


def run(steps, lost, budget=None, start=1):
    """Runs `steps` steps of which those in `lost` are not finite; the step at which it stopped."""
    budget = budget or NonFiniteBudget()
    for step in range(start, start + steps):
        budget.record(step, step not in lost)
        try:
            budget.check(step, f"rows {step}", "/run/step-1")
        except NumericsError as error:
            return step, str(error), error.hint
    return None


def test_nineteen_in_a_row_are_borne():
    assert run(100, range(5, 24)) is None


def test_the_twentieth_in_a_row_stops_the_run_and_names_batch_and_checkpoint():
    step, text, hint = run(100, range(5, 100))
    assert step == 24
    assert "20 steps in a row" in text
    assert "at step 24, rows 24" in text
    assert "/run/step-1" in hint


def test_ten_of_the_last_thousand_are_borne():
    assert run(5000, range(100, 5000, 100)) is None


def test_an_eleventh_within_a_thousand_stops_the_run():
    step, text, _ = run(5000, {*range(2000, 3000, 100), 2950})
    assert step == 2950
    assert "11 of the last 1000 steps" in text


def test_a_share_is_judged_from_the_thousandth_step_on():
    step, text, _ = run(5000, range(2, 100, 4))
    assert step == 1000
    assert "25 of the last 1000 steps" in text


def test_a_budget_continues_where_it_was_saved():
    before = NonFiniteBudget()
    run(15, range(1, 16), before)
    after = NonFiniteBudget(list(before.skipped), before.total)
    step, _, _ = run(100, range(16, 100), after, start=16)
    assert step == 20
    assert after.total == 20
