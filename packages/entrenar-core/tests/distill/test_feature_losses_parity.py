"""Losses of features and their gradients against PyTorch's autograd on the papers' definitions."""

import pytest

import feature_torch
from entrenar_core.distill.features import Counts
from entrenar_core.testing import difference
from feature_cases import CASES, MASKS, tensors

pytestmark = pytest.mark.parity


def normalizer(case, mask):
    counts = Counts((mask,))
    if case.torch in ("mse", "cosine", "patient", "transfer_squared"):
        return counts.tokens
    if case.torch == "scores":
        sides = case.options["ours"], case.options["theirs"]
        windows = [shape.window for shape in sides if shape.window]
        return counts.pairs(causal=sides[0].causal, window=min(windows, default=None))
    return counts.sequences


@pytest.mark.parametrize("padding", MASKS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_value_and_gradients_are_those_of_the_definition(case, padding):
    torch = pytest.importorskip("torch")
    mask = MASKS[padding]
    ours = tensors(case)
    loss = case.call(mask, normalizer(case, mask), *ours)
    loss.backward()
    theirs = [torch.tensor(x, requires_grad=True) for x in case.student]
    constants = [torch.tensor(x) for x in case.teacher]
    wanted = getattr(feature_torch, case.torch)(mask, *theirs, *constants, **case.options)
    wanted.backward()
    assert loss.item() == pytest.approx(wanted.item(), rel=1e-10, abs=1e-14)
    for found, expected in zip(ours, theirs, strict=False):
        assert (found.grad is None) == (expected.grad is None)  # values are in no score
        if expected.grad is not None:
            assert difference(found.grad, expected.grad.numpy()) <= 1e-8
