"""Block formats beside ggml's own encoders, byte for byte."""

import numpy as np
import pytest

from block_inputs import BLOCK_INPUTS
from entrenar_core.kernels.registry import Kernel
from entrenar_core.quant.blocks import BY_NUMBER, ENCODED, BlockFormat
from ggml_library import Ggml, installed_library

pytestmark = pytest.mark.conformance

FORMS = [form for form in ENCODED.values() if isinstance(form.encode, Kernel)]
each_form = pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)

# All bytes are equal where C rounds every operation by itself, as for x86-64 it does by default. A
# compiler that fuses products with sums, for another CPU or when told to, rounds the sums of the
# searches another way, and of two candidates that are as good as each other the other one may win.
EQUAL = 0.999


@pytest.fixture(scope="module")
def ggml():
    return Ggml(installed_library())


@pytest.mark.parametrize("form", BY_NUMBER.values(), ids=lambda form: form.name)
def test_a_type_has_the_name_and_sizes_that_ggml_gives_it(form: BlockFormat, ggml):
    assert (form.name, form.block, form.block_bytes) == ggml.describe(form.number)


@each_form
@pytest.mark.parametrize("name", BLOCK_INPUTS)
def test_bytes_are_those_of_ggml(form: BlockFormat, name, ggml):
    x = BLOCK_INPUTS[name]
    found, wanted = (
        stored.reshape(-1, form.block_bytes) for stored in (form.encode(x), ggml.encode(form, x))
    )
    other = (found != wanted).any(axis=1)
    assert other.mean() <= 1 - EQUAL, f"{other.sum()} of {other.size} blocks are others"


@each_form
def test_the_error_is_no_larger_than_that_of_ggml(form: BlockFormat, ggml):
    x = BLOCK_INPUTS["like weights"]
    errors = [
        float(np.square(form.decode(stored) - x).sum(dtype=np.float64))
        for stored in (form.encode(x), ggml.encode(form, x))
    ]
    assert errors[0] <= errors[1] * (1 + 1e-6)


@each_form
def test_signs_of_zeros_are_those_of_ggml(form: BlockFormat, ggml):
    rng = np.random.default_rng(0)
    x = np.where(rng.random((200, 256)) < 0.5, np.float32(0), np.float32(-0.0))
    x[:100, ::16] = np.where(rng.random((100, 16)) < 0.5, np.float32(0), np.float32(1))
    assert np.array_equal(form.encode(x), ggml.encode(form, x))
