"""Block formats beside the gguf package, to the bit."""

import numpy as np
import pytest

from block_inputs import BLOCK_INPUTS, stored_blocks
from entrenar_core.kernels.registry import Kernel
from entrenar_core.quant.blocks import BY_NUMBER, BlockFormat

pytestmark = pytest.mark.parity

CODED = [form for form in BY_NUMBER.values() if isinstance(form.decode, Kernel)]
SIMPLE = [form for form in CODED if form.block == 32]

each_coded = pytest.mark.parametrize("form", CODED, ids=lambda form: form.name)
each_simple = pytest.mark.parametrize("form", SIMPLE, ids=lambda form: form.name)


@pytest.fixture
def quants():
    return pytest.importorskip("gguf.quants")


@pytest.fixture(params=["compiled", "reference"])
def version(request):
    """What to call for a kernel."""
    return {"compiled": lambda kernel: kernel, "reference": lambda kernel: kernel.reference}[
        request.param
    ]


@each_coded
def test_sizes_and_numbers_are_those_of_gguf(form: BlockFormat):
    gguf = pytest.importorskip("gguf")
    kind = gguf.GGMLQuantizationType[form.name.upper()]
    assert form.number == kind
    assert (form.block, form.block_bytes) == gguf.GGML_QUANT_SIZES[kind]


@each_simple
@pytest.mark.parametrize("name", BLOCK_INPUTS)
def test_bytes_are_those_of_gguf(form: BlockFormat, name, quants, version):
    x = BLOCK_INPUTS[name]
    with np.errstate(all="ignore"):
        wanted = quants.quantize(x, quants.GGMLQuantizationType(form.number))
    assert np.array_equal(version(form.encode)(x), wanted)


@each_coded
def test_numbers_are_those_of_gguf(form: BlockFormat, quants, version):
    stored = stored_blocks(form.block_bytes)
    with np.errstate(all="ignore"):
        wanted = quants.dequantize(stored, quants.GGMLQuantizationType(form.number))
        found = version(form.decode)(stored)
    assert np.array_equal(np.isnan(found), np.isnan(wanted))
    kept = ~np.isnan(wanted)
    assert np.array_equal(found[kept].view(np.uint32), wanted[kept].view(np.uint32))


@each_simple
def test_bytes_for_negative_zeros_differ_from_those_of_gguf_in_signs_of_zeros_only(
    form: BlockFormat, quants
):
    rng = np.random.default_rng(0)
    x = np.where(rng.random((200, 32)) < 0.5, np.float32(0), np.float32(-0.0))
    x[:100, 0] = 1
    found, wanted = form.encode(x), quants.quantize(x, quants.GGMLQuantizationType(form.number))
    for at in form.halves:
        for stored in (found, wanted):
            half = stored[:, at : at + 2].copy().view(np.uint16)
            stored[:, at : at + 2] = np.where(half == 0x8000, 0, half).view(np.uint8)
    assert np.array_equal(found, wanted)
