"""NF4 against bitsandbytes' own, byte for byte."""

import numpy as np
import pytest

from entrenar_core import kernels
from entrenar_core.kernels.nf4 import ENTRIES, LIMITS
from entrenar_core.quant import NF4, NF4Array, quantize
from entrenar_core.quant.nf4 import Scales

pytestmark = pytest.mark.parity

BOTH = pytest.mark.parametrize("implementation", ["reference", "__call__"])


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch")


@pytest.fixture(scope="module")
def functional(torch):
    import bitsandbytes.functional

    return bitsandbytes.functional


def _edges():
    """The entries, the limits between them and the neighbours of both, in blocks with a 1."""
    near = [np.nextafter(LIMITS, -2), LIMITS, np.nextafter(LIMITS, 2), ENTRIES, -ENTRIES]
    return np.append(np.resize(np.concatenate(near), 4 * 77 - 1), 1).astype(np.float32)


def _arrays():
    rng = np.random.default_rng(0)
    wide = rng.standard_normal((317, 130)) * np.exp(3 * rng.standard_normal((317, 130)))
    wide[0], wide[3, 5] = 0, 1e-30
    tiny = np.full((3, 64), 1e-40)
    tiny[1] = 1e-45
    scaled = rng.uniform(0.5, 2, 40).astype(np.float32)[:, None] * np.resize(_edges(), (40, 64))
    return {
        "normal": rng.standard_normal((64, 128)),
        "many decades": wide,
        "edges": _edges(),
        "scaled edges": scaled,
        "edges in a short block": _edges()[-60:],
        "zeros": np.zeros((5, 64)),
        "zeros in a short block": np.zeros(65),
        "subnormal": tiny,
        "one": np.array([-3.0]),
        "odd": rng.standard_normal((3, 43)),
        "short last block": rng.standard_normal(64 * 300 + 2),
    }


ARRAYS = {name: np.asarray(x, np.float32) for name, x in _arrays().items()}
EACH = pytest.mark.parametrize("name", ARRAYS)


@EACH
@BOTH
@pytest.mark.parametrize("block", [32, 64, 4096])
def test_codes_and_scales_are_theirs_to_the_bit(name, implementation, block, functional, torch):
    x = ARRAYS[name]
    codes, state = functional.quantize_4bit(torch.from_numpy(x), blocksize=block, quant_type="nf4")
    ours = getattr(kernels.quantize_nf4, implementation)(x.reshape(-1), block=block)
    assert ours[0].tobytes() == codes.numpy().tobytes()
    assert ours[1].tobytes() == state.absmax.numpy().tobytes()


@EACH
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_weights_in_16_bits_are_stored_and_come_back_as_theirs(name, dtype, functional, torch):
    x = np.clip(ARRAYS[name], -60_000, 60_000)  # float16 ends at 65,504
    given = torch.from_numpy(x).to(getattr(torch, dtype))
    codes, state = functional.quantize_4bit(given, quant_type="nf4")
    theirs = functional.dequantize_4bit(codes, state).float().numpy().reshape(given.shape)
    narrow = given.view(torch.int16).numpy() if dtype == "bfloat16" else given.numpy()
    if dtype == "bfloat16":
        import ml_dtypes

        narrow = narrow.view(ml_dtypes.bfloat16)
    stored = quantize(narrow, "nf4-single")
    assert stored.codes.tobytes() == codes.numpy().tobytes()
    assert np.array_equal(stored.dequantize(), theirs)


@EACH
@BOTH
@pytest.mark.parametrize("block", [64, 4096])
def test_decoded_numbers_are_theirs_to_the_bit(name, implementation, block, functional, torch):
    # of even widths by their C++ code, of odd ones by PyTorch's operations
    x = ARRAYS[name]
    codes, state = functional.quantize_4bit(torch.from_numpy(x), blocksize=block, quant_type="nf4")
    theirs = functional.dequantize_4bit(codes, state).numpy()
    ours = getattr(kernels.nf4_part, implementation)(
        codes.numpy().reshape(-1), state.absmax.numpy(), block=block, dtype="float32", start=0,
        out=np.empty(x.size, np.float32),
    )  # fmt: skip
    assert ours.tobytes() == theirs.tobytes()


def whole_scales(blocks):
    """Weights with scales of 1 and 3, as many of each: their mean is exact in any order of the sum,
    and what is left, ±1, has no doubt about its nearest entry."""
    rng = np.random.default_rng(1)
    scales = np.repeat([1, 3], blocks // 2)
    x = rng.uniform(-1, 1, (blocks, 64))
    x[:, 0] = 1
    return (x * rng.permutation(scales)[:, None]).astype(np.float32)


@pytest.mark.parametrize("blocks", [2, 300])
def test_double_quantization_has_their_bytes(blocks, functional, torch):
    x = whole_scales(blocks)
    codes, state = functional.quantize_4bit(
        torch.from_numpy(x), quant_type="nf4", compress_statistics=True
    )
    ours = quantize(x, "nf4")
    assert ours.codes.tobytes() == codes.numpy().tobytes()
    assert ours.scales.offset == state.offset.numpy()
    assert ours.scales.codes.tobytes() == state.absmax.numpy().tobytes()
    assert ours.scales.absmax.tobytes() == state.state2.absmax.numpy().tobytes()


@pytest.mark.parametrize("name", sorted(ARRAYS.keys() - {"subnormal"}))
def test_nested_codes_are_those_of_their_exact_search(name, functional, torch):
    # Given float32, their CPU library rounds to a table of 65,536 values first; given float64, the
    # same operator measures the distance to every entry, as their GPU code does. Scales of 1e-40
    # are left out: their inverse is infinite, and for theirs everything is then ±1.
    single, double = quantize(ARRAYS[name], "nf4-single"), quantize(ARRAYS[name], "nf4")
    code = functional.create_dynamic_map(signed=True)
    differences = torch.from_numpy(single.scales.codes - double.scales.offset)
    codes, absmax = torch.ops.bitsandbytes.quantize_blockwise.default(
        differences.double(), code, 256
    )
    assert double.scales.codes.tobytes() == codes.numpy().tobytes()
    assert double.scales.absmax.tobytes() == absmax.numpy().tobytes()


@EACH
def test_the_offset_is_theirs_up_to_the_order_of_their_sum(name, functional, torch):
    x = ARRAYS[name]
    _, state = functional.quantize_4bit(
        torch.from_numpy(x), quant_type="nf4", compress_statistics=True
    )
    ours = quantize(x, "nf4").scales
    # a sum of n terms in float32 wanders by about √n roundings of 6e-8
    bound = 6e-8 * np.sqrt(ours.codes.size + 1) + 1e-45
    assert abs(ours.offset - state.offset.item()) <= bound * max(abs(ours.offset), 1e-38)


@EACH
def test_doubly_quantized_numbers_of_theirs_are_decoded_to_the_bit(name, functional, torch):
    x = ARRAYS[name]
    codes, state = functional.quantize_4bit(
        torch.from_numpy(x), quant_type="nf4", compress_statistics=True
    )
    scales = Scales(
        state.absmax.numpy(), state.state2.absmax.numpy(), state.state2.code.numpy(),
        float(state.offset),
    )  # fmt: skip
    theirs = functional.dequantize_4bit(codes, state).numpy()
    ours = NF4Array(NF4(), x.shape, codes.numpy().reshape(-1), scales).dequantize()
    assert ours.tobytes() == theirs.tobytes()
