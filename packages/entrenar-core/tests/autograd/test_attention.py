"""Attention: the counters of its dropout, what it refuses, and what it needs of memory."""

import subprocess
import sys

import numpy as np
import pytest

from entrenar_common.errors import ConfigError, ShapeError
from entrenar_core.autograd import Tensor, ops
from entrenar_core.kernels.dropout import kept
from entrenar_core.testing import difference

DTYPES = pytest.mark.parametrize("dtype", ["float32", "float64"])


def normal(*shape, dtype="float64", seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def heads(*, b=2, t=5, s=5, h=4, g=2, d=4, dtype="float64"):
    q = normal(b, t, h, d, dtype=dtype)
    k, v = normal(b, s, g, d, dtype=dtype, seed=1), normal(b, s, g, d, dtype=dtype, seed=2)
    return Tensor(q), Tensor(k), Tensor(v)


# --- dropout -------------------------------------------------------------------------------------


@DTYPES
def test_dropout_multiplies_the_weights_by_what_the_counters_keep(dtype):
    q, k, v = heads(t=70, s=90, dtype=dtype)
    b, t, h, _ = q.shape
    s = k.shape[1]
    chosen = kept(np, 2**63 + 5, b * h * t * s, 0.3).reshape(b, h, t, s) / 0.7
    weights = ops.attention_weights(q, k, scale=0.5).numpy().astype(np.float64) * chosen
    each = np.repeat(v.numpy(), 2, axis=2).astype(np.float64)
    wanted = np.einsum("bhts,bshd->bthd", weights, each)
    found = ops.attention(q, k, v, scale=0.5, dropout=0.3, key=2**63 + 5)
    assert difference(found.numpy(), wanted) <= (2e-6 if dtype == "float32" else 1e-14)


def test_the_mean_over_keys_of_dropout_is_attention_without_it():
    # many heads with the same numbers are as many draws
    q, k, v = (normal(1, 6, 1, 4, seed=seed) for seed in range(3))
    count = 4000
    same = [Tensor(np.repeat(x, count, axis=0)) for x in (q, k, v)]
    draws = ops.attention(*same, scale=0.5, dropout=0.4, key=7).numpy()
    wanted = ops.attention(Tensor(q), Tensor(k), Tensor(v), scale=0.5).numpy()[0]
    error = draws.std(axis=0) / np.sqrt(count)
    assert (np.abs(draws.mean(axis=0) - wanted) <= 4.5 * error).all()


def test_another_key_drops_other_weights():
    q, k, v = heads()
    one, two = (ops.attention(q, k, v, scale=0.5, dropout=0.5, key=key) for key in (1, 2))
    assert not np.array_equal(one.numpy(), two.numpy())


# --- what is seen --------------------------------------------------------------------------------


@DTYPES
@pytest.mark.parametrize("t", [1, 5, 70])
def test_a_query_that_sees_no_key_gives_zero_and_gets_no_gradient(dtype, t):
    q, k, v = (Tensor(x.numpy(), requires_grad=True) for x in heads(t=t, s=t, dtype=dtype))
    mask = np.ones((2, t), bool)
    mask[1] = False
    o = ops.attention(q, k, v, scale=0.5, mask=mask)
    o.backward(normal(*o.shape, dtype=dtype))
    assert not o.numpy()[1].any()
    assert not any(x.grad[1].any() for x in (q, k, v))
    assert o.numpy()[0].all()


@DTYPES
def test_keys_that_do_not_count_are_as_good_as_absent(dtype):
    q, k, v = heads(t=3, s=9, dtype=dtype)
    mask = np.zeros((2, 9), bool)
    mask[:, 2:7] = True
    found = ops.attention(q, k, v, scale=0.5, causal=False, mask=mask)
    short = Tensor(k.numpy()[:, 2:7]), Tensor(v.numpy()[:, 2:7])
    wanted = ops.attention(q, *short, scale=0.5, causal=False)
    assert difference(found.numpy(), wanted.numpy()) <= (2e-7 if dtype == "float32" else 1e-15)


@DTYPES
def test_a_bias_of_minus_infinity_hides_a_key(dtype):
    q, k, v = heads(t=20, s=20, dtype=dtype)
    mask = normal(2, 20) > 0
    bias = np.where(mask, 0, -np.inf).astype(dtype)[:, None, None, :]
    found = ops.attention(q, k, v, bias, scale=0.5).numpy()
    assert np.array_equal(found, ops.attention(q, k, v, scale=0.5, mask=mask).numpy())


@DTYPES
@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("options", [{}, {"window": 9}, {"mask": np.ones((2, 80), bool)}])
def test_a_bad_bias_is_seen_in_its_row_alone(dtype, bad, options):
    q, k, v = heads(t=80, s=80, dtype=dtype)
    bias = np.zeros((80, 80), dtype)
    bias[40, 37] = bad
    with np.errstate(invalid="ignore"):
        o = ops.attention(q, k, v, bias, scale=0.5, **options).numpy()
    assert np.isfinite(o).all(axis=(0, 2, 3)).tolist() == [t != 40 for t in range(80)]


@DTYPES
def test_the_weights_are_those_that_attention_uses(dtype):
    q, k, v = heads(t=40, s=70, dtype=dtype)
    options = {"scale": 0.5, "window": 20, "mask": normal(2, 70) > -0.5}
    weights = ops.attention_weights(q, k, normal(4, 1, 70, dtype=dtype), **options).numpy()
    wanted = np.einsum("bhts,bshd->bthd", weights, np.repeat(v.numpy(), 2, axis=2))
    found = ops.attention(q, k, v, normal(4, 1, 70, dtype=dtype), **options).numpy()
    assert difference(found, wanted) <= (2e-6 if dtype == "float32" else 1e-14)


# --- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize("function", ["attention", "attention_weights"])
@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"scale": np.nan}, "scale is nan"),
        ({"scale": "1"}, "scale is '1'"),
        ({"window": 0}, "window is 0"),
        ({"window": 2.0}, "window is 2.0"),
    ],
)
def test_an_option_out_of_range_is_named(function, option, message):
    q, k, v = heads()
    inputs = (q, k, v) if function == "attention" else (q, k)
    with pytest.raises(ConfigError, match=f"{function}: {message}"):
        getattr(ops, function)(*inputs, **{"scale": 0.5} | option)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"dropout": 1.0}, "dropout is 1.0"),
        ({"dropout": -0.1}, "dropout is -0.1"),
        ({"dropout": np.nan}, "dropout is nan"),
        ({"key": -1}, "key is -1"),
        ({"key": 2**64}, "key is 18446744073709551616"),
    ],
)
def test_a_chance_out_of_range_is_named(option, message):
    with pytest.raises(ConfigError, match=message):
        ops.attention(*heads(), scale=0.5, **option)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.ones((2, 5)), r"mask float64 \(2, 5\) for 2 sequences of 5 keys"),
        (np.ones((2, 1, 1, 5), bool), r"mask bool \(2, 1, 1, 5\)"),
        (np.ones((1, 5), bool), r"mask bool \(1, 5\)"),
    ],
)
def test_a_mask_that_does_not_fit_is_shown(mask, message):
    with pytest.raises(ShapeError, match=message):
        ops.attention(*heads(), scale=0.5, mask=mask)


@pytest.mark.parametrize("shape", [(3, 1, 5), (2, 2, 5, 5), (5, 1, 1, 1, 1), (4,)])
def test_a_bias_that_does_not_broadcast_is_shown(shape):
    with pytest.raises(ShapeError, match="does not broadcast"):
        ops.attention(*heads(), np.zeros(shape), scale=0.5)


@pytest.mark.parametrize("change", [{"s": 4}, {"g": 3}, {"g": 8}])
def test_keys_that_do_not_fit_are_shown(change):
    with pytest.raises(ShapeError, match="do not fit"):
        ops.attention(*heads(**change), scale=0.5)


@pytest.mark.parametrize("shape", [(4, 2), (2, 5, 4), (5, 3), (1, 5, 2)])
def test_rotary_tables_that_do_not_fit_are_shown(shape):
    table = np.ones(shape)
    with pytest.raises(ShapeError, match=r"rope: tables cos .* for x \(2, 5, 3, 4\)"):
        ops.rope(Tensor(normal(2, 5, 3, 4)), table, table)


@pytest.mark.parametrize("shape", [(2, 5, 3, 5), (2, 5, 4)])
def test_rope_of_what_has_no_pairs_is_refused(shape):
    with pytest.raises(ShapeError, match="even width"):
        ops.rope(Tensor(normal(*shape)), np.ones((5, 2)), np.ones((5, 2)))


def test_positions_of_each_sequence_turn_it_as_if_it_were_alone():
    x, angles = normal(2, 5, 3, 8), normal(2, 5, 4)
    together = ops.rope(Tensor(x), np.cos(angles), np.sin(angles)).numpy()
    for b in range(2):
        alone = ops.rope(Tensor(x[b : b + 1]), np.cos(angles[b]), np.sin(angles[b])).numpy()
        assert np.array_equal(together[b], alone[0])


# --- memory --------------------------------------------------------------------------------------

PEAK = """
import sys
from pathlib import Path
import numpy as np
from entrenar_core.autograd import Tensor, ops

def step(time):
    x = [Tensor(np.ones((1, time, 4, 64), np.float32), requires_grad=True) for _ in range(3)]
    mask, bias = np.ones((1, time), bool), np.zeros((4, 1, 1), np.float32)
    ops.attention(*x, bias, scale=0.1, mask=mask, window=%s, causal=%s).sum().backward()

def kib(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1])

step(64)  # compiles
Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts again
before = kib("VmRSS")
step(int(sys.argv[1]))
print(kib("VmHWM") - before)
"""


@pytest.mark.tier3
@pytest.mark.skipif(sys.platform != "linux", reason="resets a high-water mark of Linux's")
@pytest.mark.parametrize(("window", "causal"), [(None, True), (None, False), (256, True)])
def test_memory_is_linear_in_the_length(window, causal):
    def peak(time):
        program = [sys.executable, "-c", PEAK % (window, causal), str(time)]
        return int(subprocess.run(program, check=True, capture_output=True, text=True).stdout)

    # 4,096² scores of one head alone are 65,536 KiB
    short, long = peak(2048), peak(4096)
    assert long < 65_536
    assert long <= 2.2 * short
