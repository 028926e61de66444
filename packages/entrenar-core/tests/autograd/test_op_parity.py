"""Every operation that PyTorch has, against PyTorch in float32: the value and every gradient."""

import numpy as np
import pytest

from entrenar_core.autograd import Tensor
from entrenar_core.testing import difference
from op_cases import all_cases
from op_kinks import KINKS

pytestmark = pytest.mark.parity

BOUND = 1e-5


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch")


def is_float(value):
    return isinstance(value, np.ndarray) and value.dtype.kind == "f"


@pytest.mark.parametrize(
    "case", [pytest.param(c, id=f"{c.op}-{i}") for i, c in enumerate(all_cases()) if c.torch]
)
def test_values_and_gradients_are_those_of_torch(case, torch):
    arrays = [x.astype(np.float32) if is_float(x) else x for x in case.inputs]
    ours = [Tensor(x.copy(), requires_grad=True) if is_float(x) else x for x in arrays]
    theirs = [torch.tensor(x, requires_grad=True) if is_float(x) else x for x in arrays]
    y, wanted = case.call(*ours), case.torch(torch, *theirs)
    assert y.dtype == np.float32
    assert difference(y.data, wanted.detach().numpy()) <= BOUND
    g = np.random.default_rng(1).standard_normal(y.shape).astype(np.float32)
    y.backward(g)
    wanted.backward(torch.tensor(g))
    for found, leaf in zip(ours, theirs, strict=True):
        if isinstance(found, Tensor):
            assert found.grad.dtype == np.float32
            assert difference(found.grad, leaf.grad.numpy()) <= BOUND


@pytest.mark.parametrize("kink", KINKS, ids=lambda kink: kink.name)
def test_subgradients_are_those_of_torch(kink, torch):
    leaves = [torch.tensor(x, requires_grad=True) for x in kink.inputs]
    kink.torch(torch, *leaves).sum().backward()
    for leaf, wanted in zip(leaves, kink.gradients, strict=True):
        assert difference(leaf.grad.numpy(), np.float32(wanted)) <= 1e-7
