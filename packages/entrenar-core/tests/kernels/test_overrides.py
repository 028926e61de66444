"""Every compiled kernel against its reference, on the shared cases."""

import inspect

import numba
import numpy as np
import pytest

from entrenar_core.kernels import KERNELS
from entrenar_core.testing import difference
from entrenar_core.testing_cases import CASES

# The reference is run in float64 on the same numbers, so what is measured is rounding alone. One
# rounding is 6e-8; a sum of n terms in partial sums (vector lanes, rows, blocks of a product)
# wanders by about √n of them, so 2e-6 is what sums of a thousand terms may come to. Where that is
# not enough (sums of 65,537 terms, differences that cancel) the problem and not the kernel is to
# blame, and then the reference run in float32 is off as well: its own error is allowed twice.
BOUND = 2e-6

# A kernel that rounds on its way to a coarse type, such as bfloat16, may round a number that lies
# half-way up where the reference rounds it down. That is one number in a few thousand, and moves
# one term of a sum by one step of that type, so it is allowed of a few results, but not of most.


def overridden():
    for name, kernel in KERNELS.items():
        kernel.load("cpu")
        for (backend, dtype), function in kernel.overrides.items():
            if backend == "cpu":
                for case in CASES.get(name, []):
                    yield pytest.param(
                        kernel, function, case, dtype, id=f"{name}[{case.name}, {dtype}]"
                    )


OVERRIDDEN = list(overridden())


def outcome(function, case, arguments):
    """What a call returned and what it left in its array arguments, by name."""
    (_, first), *rest = arguments.items()
    with np.errstate(over="ignore"):  # e^(−x) may be infinite on the way to a result that is not
        results = function(first, **dict(rest))
    results = results if isinstance(results, tuple) else (results,)
    found = {f"result {i}": result for i, result in enumerate(results)}
    left = {k: v for k, v in arguments.items() if isinstance(v, np.ndarray)}
    return found | {k: v for k, v in left.items() if k not in case.scratch}


def coded(name, array):
    """Whether it is a result in codes: a code beside the right one is a wrong one."""
    return name.startswith("result") and getattr(array, "dtype", None) == np.uint8


def middle_difference(found, wanted):
    """The median of |found − wanted| over all results, by max|wanted|."""
    a, b = (np.asarray(x, np.float64) for x in (found, wanted))
    finite = np.isfinite(b)
    if not np.any(b[finite]):
        return 0.0 if np.array_equal(a, b, equal_nan=True) else np.inf
    return np.median(np.abs(a[finite] - b[finite])) / np.abs(b[finite]).max()


def in_float64(arguments):
    return {
        k: v.astype(np.float64) if isinstance(v, np.ndarray) and v.dtype == np.float32 else v
        for k, v in arguments.items()
    }


def test_every_kernel_has_cases_and_every_case_a_kernel():
    assert CASES.keys() == KERNELS.keys()
    assert all(CASES.values())


@pytest.mark.parametrize("name", KERNELS)
def test_the_names_of_the_cases_of_a_kernel_are_distinct(name):
    # the numbers are drawn from the name
    names = [case.name for case in CASES[name]]
    assert len(set(names)) == len(names)


def test_some_kernels_are_overridden():
    assert len({param.values[0].name for param in OVERRIDDEN}) >= 10


@pytest.mark.parametrize("name", KERNELS)
def test_an_override_has_the_signature_of_its_reference(name):
    kernel = KERNELS[name]
    kernel.load("cpu")
    for function in kernel.overrides.values():
        assert inspect.signature(function) == inspect.signature(kernel.reference)


@pytest.mark.tier2
@pytest.mark.parametrize(("kernel", "function", "case", "dtype"), OVERRIDDEN)
def test_an_override_gives_the_values_of_its_reference(kernel, function, case, dtype):
    found = outcome(function, case, case.arguments(dtype))
    plain = outcome(kernel.reference, case, case.arguments(dtype))
    exact = outcome(kernel.reference, case, in_float64(case.arguments(dtype)))
    assert found.keys() == exact.keys()
    for name, value in exact.items():
        if coded(name, plain[name]):
            assert np.array_equal(found[name], plain[name]), name
            continue
        allowed = max(BOUND, 2 * difference(plain[name], value))
        if case.step:
            assert middle_difference(found[name], value) <= allowed, name
            allowed = max(allowed, case.step)
        assert difference(found[name], value) <= allowed, name


@pytest.mark.tier2
@pytest.mark.parametrize(("kernel", "function", "case", "dtype"), OVERRIDDEN)
def test_an_override_gives_the_types_and_shapes_of_its_reference(kernel, function, case, dtype):
    found = outcome(function, case, case.arguments(dtype))
    wanted = outcome(kernel.reference, case, case.arguments(dtype))
    for name, array in wanted.items():
        assert type(found[name]) is type(array)
        assert np.shape(found[name]) == np.shape(array)
        assert np.asarray(found[name]).dtype == np.asarray(array).dtype


@pytest.mark.tier2
@pytest.mark.parametrize(("kernel", "function", "case", "dtype"), OVERRIDDEN)
def test_an_override_returns_the_array_it_was_given_for_the_result(kernel, function, case, dtype):
    arguments = case.arguments(dtype)
    found = outcome(function, case, arguments)
    assert "out" not in arguments or found["result 0"] is arguments["out"]


@pytest.mark.tier2
@pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS < 2, reason="needs two threads")
@pytest.mark.parametrize(("kernel", "function", "case", "dtype"), OVERRIDDEN)
def test_one_and_two_threads_give_the_same_bits(kernel, function, case, dtype, threads):
    threads(1)
    one = outcome(function, case, case.arguments(dtype))
    threads(2)
    two = outcome(function, case, case.arguments(dtype))
    for name in one:
        assert np.array_equal(one[name], two[name]), name


@pytest.fixture
def threads():
    before = numba.get_num_threads()
    yield numba.set_num_threads
    numba.set_num_threads(before)
