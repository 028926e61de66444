"""What `compare` finds in the numbers of tensors, beside numpy in float64."""

import json
import math

import ml_dtypes
import numpy as np
import pytest

from entrenar_common.tables import Text
from entrenar_core.io.safetensors import write_file
from entrenar_core.kernels import Held, comparing
from entrenar_core.quant import quantize
from entrenar_inspect.compare import compare
from entrenar_inspect.compare_view import Report
from entrenar_inspect.differences import Numbers, difference, same_bytes
from entrenar_inspect.opening import open_artifact

RNG = np.random.default_rng
KERNELS = [
    pytest.param(comparing.differences.reference, id="numpy"),
    pytest.param(comparing.differences, id="compiled", marks=pytest.mark.tier2),
]
TYPES = {
    "float32": np.float32, "float16": np.float16, "float64": np.float64,
    "bfloat16": ml_dtypes.bfloat16,
}  # fmt: skip


def drawn(shape, dtype=np.float32, seed=0):
    return RNG(seed).standard_normal(shape).astype(np.float32).astype(dtype)


def changed(a, seed=1, scale=0.01):
    """Most of a's elements, moved a little."""
    moved = a.astype(np.float64) + scale * RNG(seed).standard_normal(a.shape)
    return np.where(RNG(seed).random(a.shape) < 0.7, moved, a.astype(np.float64)).astype(a.dtype)


def figures(a, b):
    """What numpy makes of it in float64."""
    x, y = a.astype(np.float64), b.astype(np.float64)
    d = np.abs(y - x)
    at = np.unravel_index(int(d.argmax()), d.shape)
    norm_x, norm_y = np.linalg.norm(x), np.linalg.norm(y)
    return {
        "norm_a": norm_x, "norm_b": norm_y, "distance": np.linalg.norm(d),
        "relative": np.linalg.norm(d) / norm_x, "cosine": (x * y).sum() / (norm_x * norm_y),
        "largest": d.max(), "at": tuple(map(int, at)), "unequal": int((x != y).sum()),
    }  # fmt: skip


def agree(found, a, b):
    for name, wanted in figures(a, b).items():
        got = getattr(found, name)
        assert got == (pytest.approx(wanted, rel=2e-6) if isinstance(wanted, float) else wanted)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("dtype", TYPES)
def test_figures_are_those_of_numpy_however_the_tensor_is_cut(kernel, dtype):
    a = drawn((53, 37), TYPES[dtype])
    b = changed(a)
    for piece in (100, 1 << 20):
        agree(difference(Numbers(a), Numbers(b), kernel, piece), a, b)


@pytest.mark.parametrize("kernel", KERNELS)
def test_two_types_are_compared_exactly(kernel):
    a, b = drawn((40, 30)), drawn((40, 30)).astype(ml_dtypes.bfloat16)
    agree(difference(Numbers(a), Numbers(b), kernel, 128), a, b)
    wide = drawn((40, 30), np.float64) + 1e-12
    agree(difference(Numbers(a), Numbers(wide), kernel, 128), a, wide)


def test_integers_and_truth_values_are_compared():
    a = RNG(0).integers(-90, 90, (12, 5), np.int8)
    agree(look(a, changed(a, scale=20)), a, changed(a, scale=20))
    yes = a > 0
    agree(look(yes, ~yes), yes, ~yes)


def test_integers_that_no_float_tells_apart_are_not_equal():
    a = np.array([2**60, 5], np.int64)
    assert look(a, a + np.array([1, 0])).unequal == 1


def test_complex_numbers_are_compared_by_their_parts():
    a = np.array([1 + 1j, 2j], np.complex64)
    found = look(a, a + np.complex64([0, 3j]))
    assert (found.largest, found.at, found.unequal) == (3.0, (1, 1), 1)


def look(a, b):
    return difference(Numbers(a), Numbers(b), comparing.differences.reference, 1 << 15)


@pytest.mark.parametrize("form", ["q8_0", "q4_k", "f16"])
def test_blocks_are_compared_with_what_they_stand_for(form):
    a = drawn((9, 512))
    stored = quantize(a, form)
    b = stored.dequantize()
    noise = 10 * math.log10(np.square(a, dtype=float).sum() / np.square(a - b, dtype=float).sum())
    for found in (look(a, stored), look(a, Held(stored)), look(a.T.copy(), Held(stored).T)):
        assert found.relative == pytest.approx(figures(a, b)["relative"], rel=1e-6)
        assert found.sqnr_db == pytest.approx(noise, rel=1e-6)
    assert look(stored, a).sqnr_db == pytest.approx(noise, rel=1e-6)


def test_blocks_of_more_than_two_axes_are_compared():
    a = drawn((3, 4, 256))
    agree(look(a, quantize(a, "q8_0")), a, quantize(a, "q8_0").dequantize())


def test_nan_is_equal_to_nan_and_one_alone_is_counted_and_left_out_of_figures():
    a, b = drawn((10, 10)), changed(drawn((10, 10)))
    a[1, 1] = b[1, 1] = np.nan
    a[2, 2], b[3, 3], b[4, 4] = np.nan, np.inf, -np.inf
    found = look(a, b)
    assert found.unlike == 3
    kept = np.isfinite(a) & np.isfinite(b)
    wanted = figures(np.where(kept, a, 0), np.where(kept, b, 0))
    assert found.relative == pytest.approx(wanted["relative"], rel=1e-6)
    assert found.unequal == wanted["unequal"] + 3


def test_what_has_no_norm_has_no_cosine_and_an_infinite_relative_difference():
    found = look(np.zeros(4, np.float32), np.ones(4, np.float32))
    assert (found.relative, found.cosine) == (math.inf, None)
    equal = look(np.zeros(4, np.float32), -np.zeros(4, np.float32))
    assert (equal.relative, equal.unequal, equal.equal) == (0.0, 0, True)


@pytest.mark.parametrize("shape", [(), (0,), (3, 0), (1,)])
def test_tensors_of_every_shape_are_compared(shape):
    a = np.ones(shape, np.float32)
    assert look(a, np.asarray(a + 1)).unequal == a.size


@pytest.mark.parametrize("size", [1, 7, 8, 100_003])
def test_the_same_bytes_are_found_and_one_other_bit_too(size):
    a = RNG(0).integers(0, 256, size, np.uint8)
    for place in {0, size // 2, size - 1}:
        b = a.copy()
        assert same_bytes(a, b)
        b[place] ^= 1
        assert not same_bytes(a, b)


def test_equal_numbers_of_two_types_are_not_the_same_bytes():
    assert not same_bytes(np.ones(4, np.float32), np.ones(4, np.int32))


# --- whole models --------------------------------------------------------------------------------


@pytest.fixture
def compared(tmp_path):
    """Compares the numbers of tensors written to two files."""

    def run(a, b, **options):
        for name, tensors in (("a", a), ("b", b)):
            write_file(tmp_path / f"{name}.safetensors", tensors)
        paths = (str(tmp_path / f"{name}.safetensors") for name in "ab")
        with open_artifact(next(paths)) as one, open_artifact(next(paths)) as other:
            return compare(one, other, values=True, **options)

    return run


def weights(**more):
    names = [f"layers.{i}.{part}.weight" for i in range(3) for part in ("q_proj", "k_proj")]
    return {name: drawn((48, 32), seed=n) for n, name in enumerate(names)} | more


def test_sums_are_over_all_numbers_of_a_kind_of_module(compared):
    a = weights()
    b = a | {name: changed(a[name], n) for n, name in enumerate(a) if "q_proj" in name}
    numbers = compared(a, b).numbers
    assert (numbers.tensors, numbers.identical, numbers.differ) == (6, 3, 3)
    q_proj, k_proj = sorted(numbers.modules, key=lambda each: each.module, reverse=True)
    x, y = (np.concatenate([t[n].ravel() for n in a if "q_proj" in n]) for t in (a, b))
    wanted = figures(x, y)
    assert (q_proj.module, q_proj.tensors, q_proj.differ) == ("q_proj", 3, 3)
    assert q_proj.relative == numbers.relative == pytest.approx(wanted["relative"], rel=1e-6)
    assert q_proj.cosine == pytest.approx(wanted["cosine"], rel=1e-9)
    assert (k_proj.differ, k_proj.relative) == (0, 0.0)


def test_within_the_tolerance_tensors_count_as_the_same(compared):
    a = weights()
    b = {name: array.astype(ml_dtypes.bfloat16) for name, array in a.items()}
    relative = max(figures(a[n], b[n])["relative"] for n in a)
    assert compared(a, b, tolerance=relative * 1.01).same
    found = compared(a, b, tolerance=relative * 0.99)
    assert not found.same
    assert found.counts["retyped"] >= 1


def test_a_nan_on_one_side_is_never_within_the_tolerance(compared):
    a = weights()
    b = a | {"layers.0.q_proj.weight": a["layers.0.q_proj.weight"].copy()}
    b["layers.0.q_proj.weight"][0, 0] = np.nan
    found = compared(a, b, tolerance=9.0)
    assert (found.same, found.counts["differs"]) == (False, 1)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("axis", [0, 1])
def test_rows_or_columns_in_another_order_are_recognised(compared, dtype, axis):
    a = {"w": drawn((24, 18), TYPES[dtype])}
    order = np.roll(np.arange(a["w"].shape[axis]), 1)
    order[5:] = np.sort(order[5:])
    b = {"w": np.ascontiguousarray(np.take(a["w"], order, axis))}
    moved = int((order != np.arange(len(order))).sum())
    noun = ("rows", "columns")[axis]
    pattern = compared(a, b).tensors[0].difference.pattern
    assert pattern == f"{noun} permuted ({moved} of {len(order)})"


def test_the_elements_of_a_vector_in_another_order_are_recognised(compared):
    a = drawn(30)
    found = compared({"v": a}, {"v": a[::-1].copy()}).tensors[0].difference
    assert found.pattern == "elements permuted (30 of 30)"


def test_one_other_number_makes_it_no_permutation(compared):
    a = drawn((24, 18))
    b = a[::-1].copy()
    b[3, 3] += 1e-3
    assert compared({"w": a}, {"w": b}).tensors[0].difference.pattern is None


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("factor", [0.7, -2.0, 1.1])
def test_a_multiple_is_recognised_through_the_rounding_of_its_type(compared, dtype, factor):
    a = drawn((40, 30), TYPES[dtype])
    b = (a.astype(np.float64) * factor).astype(TYPES[dtype])
    assert compared({"w": a}, {"w": b}).tensors[0].difference.pattern == f"scaled by {factor:g}"


def test_a_multiple_with_one_other_number_is_none(compared):
    a = drawn((40, 30))
    b = a * np.float32(0.5)
    b[7, 7] *= 1.001
    assert compared({"w": a}, {"w": b}).tensors[0].difference.pattern is None


def test_changes_by_rounding_alone_are_no_multiple(compared):
    a = drawn((40, 30), ml_dtypes.bfloat16)
    b = (a.view(np.uint16) + (RNG(0).random(a.shape) < 0.3)).astype(np.uint16).view(a.dtype)
    assert compared({"w": a}, {"w": b}).tensors[0].difference.pattern is None


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_rounding_to_another_type_is_recognised_and_said_once(compared, dtype):
    a = {f"w{i}": np.random.default_rng(i).standard_normal((40, 30)) for i in range(3)}
    found = compared(a, {name: x.astype(TYPES[dtype]) for name, x in a.items()})
    assert {pair.difference.pattern for pair in found.tensors} == {f"rounded to {dtype}"}
    assert [text for text in texts(found) if "rounded" in text] == [
        f"3 tensors: rounded to {dtype}"
    ]


def test_rounding_with_one_other_number_is_none(compared):
    a = drawn((40, 30))
    b = a.astype(np.float16)
    b[7, 7] *= np.float16(1.01)
    assert compared({"w": a}, {"w": b}).tensors[0].difference.pattern is None


def texts(found):
    view = Report(found, everything=False, verbose=False).__view__()
    return [part.text for part in view if isinstance(part, Text)]


def test_the_report_says_the_largest_differences_first_and_all_where_asked(compared):
    a = {f"t{i}.weight": drawn((6, 5), seed=i) for i in range(14)}
    b = {n: x * np.float32(1.5) if n == "t7.weight" else changed(x) for n, x in a.items()}
    found = compared(a, b)
    tables = {everything: largest(found, everything) for everything in (False, True)}
    assert tables[False].rows[0][0] == "t7.weight"
    assert (len(tables[False].rows), len(tables[True].rows)) == (10, 14)


def largest(found, everything):
    view = Report(found, everything=everything, verbose=False).__view__()
    return next(p for p in view if getattr(p, "title", None) == "Largest differences")


def test_what_nothing_reads_is_reported_and_never_the_same(tmp_path):
    header = {"t": {"dtype": "F4", "shape": [2, 2], "data_offsets": [0, 2]}}
    text = json.dumps(header).encode()
    for name, data in (("a", b"12"), ("b", b"12")):
        raw = len(text).to_bytes(8, "little") + text + data
        (tmp_path / f"{name}.safetensors").write_bytes(raw)
    paths = [str(tmp_path / f"{name}.safetensors") for name in "ab"]
    with open_artifact(paths[0]) as a, open_artifact(paths[1]) as b:
        found = compare(a, b, values=True, tolerance=1.0)
    assert "4 bits" in found.tensors[0].difference.problem
    assert not found.same
