"""The blockwise code against bitsandbytes', byte for byte."""

import numpy as np
import pytest

from entrenar_core import kernels
from entrenar_core.kernels.blockwise import BLOCK, dynamic_map

pytestmark = pytest.mark.parity

SIGNED = pytest.mark.parametrize("signed", [True, False])
BOTH = pytest.mark.parametrize("implementation", ["reference", "__call__"])


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch")


@pytest.fixture(scope="module")
def functional(torch):
    import bitsandbytes.functional

    return bitsandbytes.functional


def numbers(signed):
    """Sizes with a part of a block at the end, magnitudes over many decades, blocks of zeros, and
    the entries with what is between two of them."""
    rng = np.random.default_rng(0)
    wide = rng.standard_normal(70_007) * np.exp(4 * rng.standard_normal(70_007))
    wide[: 2 * BLOCK] = 0
    wide[BLOCK + 3] = 1e-30
    entries = dynamic_map(signed)
    middles = (entries[:-1] + entries[1:]) / 2
    edges = [middles, np.nextafter(middles, -2), np.nextafter(middles, 2), entries]
    edges = np.resize(np.concatenate(edges), (5, 255))
    edges = np.concatenate([edges, np.ones((5, 1))], axis=1)
    found = [wide, rng.standard_normal(1), rng.standard_normal(300), edges.ravel()]
    return [(x if signed else np.abs(x)).astype(np.float32) for x in found]


@SIGNED
def test_the_map_is_theirs_to_the_bit(signed, functional):
    theirs = functional.create_dynamic_map(signed=signed).numpy()
    assert dynamic_map(signed).tobytes() == theirs.tobytes()


@SIGNED
@BOTH
def test_codes_and_scales_are_those_of_their_exact_search(
    implementation, signed, functional, torch
):
    # Their CPU library rounds float32 to a table of 65,536 values first; the same operator of
    # theirs, given float64, measures the distance to every entry.
    quantize = getattr(kernels.quantize_blockwise, implementation)
    code = functional.create_dynamic_map(signed=signed)
    for x in numbers(signed):
        codes, scales = torch.ops.bitsandbytes.quantize_blockwise.default(
            torch.from_numpy(x).double(), code, BLOCK
        )
        ours, our_scales = quantize(x, signed=signed)
        assert ours.tobytes() == codes.numpy().tobytes()
        assert our_scales.tobytes() == scales.numpy().tobytes()


@SIGNED
@BOTH
def test_their_table_gives_the_same_codes_where_it_is_fine_enough(
    implementation, signed, functional, torch
):
    quantize = getattr(kernels.quantize_blockwise, implementation)
    code = functional.create_dynamic_map(signed=signed)
    entries = dynamic_map(signed)
    middles = (entries[:-1] + entries[1:]) / 2
    for x in numbers(signed):
        codes, state = functional.quantize_blockwise(torch.from_numpy(x), code, blocksize=BLOCK)
        ours, scales = quantize(x, signed=signed)
        assert scales.tobytes() == state.absmax.numpy().tobytes()
        repeated = np.repeat(scales, BLOCK)[: x.size]
        scaled = x / np.where(repeated == 0, 1, repeated)
        # one step of the table is 2/65535, and it takes the nearest step
        clear = np.abs(scaled[:, None] - middles).min(axis=1) > 1.01 / 65535
        clear |= repeated == 0
        assert np.array_equal(ours[clear], codes.numpy()[clear])
        # where they differ ours is the nearer one
        error = np.abs(entries[ours] - scaled)
        assert (error <= np.abs(entries[codes.numpy()] - scaled) + 1e-7).all()
        assert clear.any()


@SIGNED
@BOTH
def test_decoded_numbers_are_theirs_to_the_bit(implementation, signed, functional, torch):
    dequantize = getattr(kernels.dequantize_blockwise, implementation)
    code = functional.create_dynamic_map(signed=signed)
    for x in numbers(signed):
        codes, scales = kernels.quantize_blockwise(x, signed=signed)
        theirs = functional.dequantize_blockwise(
            torch.from_numpy(codes), absmax=torch.from_numpy(scales), code=code, blocksize=BLOCK
        )
        ours = dequantize(codes, scales, signed=signed)
        assert ours.tobytes() == theirs.numpy().tobytes()
