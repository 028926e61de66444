"""Fitting numbers to texts: beside numpy's least squares, and what is measured of it."""

import math

import numpy as np
import pytest

from entrenar_common.errors import ConfigError
from entrenar_core.autograd import Tensor
from entrenar_core.data.text_batches import TextBatch
from entrenar_core.nn import Linear
from entrenar_core.nn.init import initialise
from entrenar_core.optim import SGD
from entrenar_core.train.figures import of_classes, of_numbers
from entrenar_core.train.regression import NumberRegression

RNG = np.random.default_rng(5)
TEXTS, IDS = 24, 4
FEATURES = RNG.normal(size=(TEXTS, 3))
NUMBERS = FEATURES @ [2.0, -1.0, 0.5] + 3.0 + RNG.normal(size=TEXTS)


class Features:
    """A model that makes of text i a line of FEATURES[i], which it reads in the first id."""

    config = None

    def __init__(self):
        self.line = Linear(3, 1, bias=True, dtype="float64")
        initialise(self.line, 1, std=0.1)

    def __call__(self, ids, mask):
        return self.line(Tensor(FEATURES[ids[:, 0]]))


def batch(rows):
    ids = np.repeat(rows[:, None], IDS, axis=1)
    return TextBatch(ids, np.ones(ids.shape, bool), rows, NUMBERS[rows])


def fitted(parts, steps=200):
    """The line after descent along whole gradients, each made of so many micro-batches."""
    model = Features()
    objective = NumberRegression(model)
    optimizer = SGD(model.line.named_parameters())
    for _ in range(steps):
        optimizer.zero_grad()
        for rows in np.array_split(np.arange(TEXTS), parts):
            objective.loss(batch(rows), TEXTS).backward()
        optimizer.step(0.3)
    return np.append(model.line.weight.data[0], model.line.bias.data)


@pytest.mark.parametrize("parts", [1, 5])
def test_a_line_becomes_that_of_least_squares(parts):
    """However a step is cut into micro-batches of unequal size."""
    design = np.column_stack([FEATURES, np.ones(TEXTS)])
    wanted, *_ = np.linalg.lstsq(design, NUMBERS, rcond=None)
    np.testing.assert_allclose(fitted(parts), wanted, rtol=1e-9)


def test_texts_without_numbers_are_refused():
    rows = np.arange(2)
    with pytest.raises(ConfigError, match="without numbers"):
        NumberRegression(Features()).loss(TextBatch(rows[:, None], rows[:, None] >= 0, rows), 2)


def test_figures_of_numbers_are_what_numpy_says():
    found, wanted = RNG.normal(size=50), RNG.normal(size=50)
    figures = of_numbers(found, wanted)
    assert figures["held_out_loss"] == pytest.approx(np.square(found - wanted).mean())
    assert figures["rmse"] == pytest.approx(np.linalg.norm(found - wanted) / math.sqrt(50))
    # of the line of least squares, R² is the square of the correlation
    slope, offset = np.polyfit(found, wanted, 1)
    fitted_line = of_numbers(slope * found + offset, wanted)
    assert fitted_line["r2"] == pytest.approx(np.corrcoef(found, wanted)[0, 1] ** 2)


def test_the_mean_explains_nothing_and_one_number_cannot_be_explained():
    wanted = RNG.normal(size=9)
    assert of_numbers(np.full(9, wanted.mean()), wanted)["r2"] == pytest.approx(0)
    assert math.isnan(of_numbers(wanted, np.ones(9))["r2"])


def test_figures_of_classes_are_counted():
    """Answers 0 0 1 1 of 0 1 1 1, and a class that is nowhere: F1 of the first are 2/3 and 4/5."""
    logits = np.log(np.array([[8, 1, 1], [8, 1, 1], [1, 8, 1], [1, 8, 1]]) / 10)
    figures = of_classes(logits.astype("f4"), np.array([0, 1, 1, 1]))
    assert figures["accuracy"] == 0.75
    assert figures["macro_f1"] == pytest.approx((2 / 3 + 4 / 5) / 2)
    assert figures["held_out_loss"] == pytest.approx(-(3 * math.log(0.8) + math.log(0.1)) / 4)
