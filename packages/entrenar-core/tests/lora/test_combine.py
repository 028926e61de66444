"""Combining adapters: exact sums, TIES and DARE by their formulas."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapter_files import DOWN, PREFIX, K, Q, dense, factors, write_peft
from entrenar_common.errors import ConfigError, UnsupportedError
from entrenar_core.lora.changes import Weighted
from entrenar_core.lora.combine import Options, combination, elected_mean, magnitude_bound
from entrenar_core.lora.joined import join, resize
from entrenar_core.lora.stored import StoredAdapter
from entrenar_core.lora.write import write_adapter
from entrenar_core.testing import difference


@pytest.fixture
def adapters(tmp_path):
    """A function that opens adapters: two of ranks 4 and 3, the second with rsLoRA and without a
    module of the first. With their dense updates by module."""
    opened = []

    def make(*factors_given, **config):
        first, second = factors(seed=1), factors({Q: (64, 64), DOWN: (64, 96)}, rank=3, seed=2)
        write_peft(tmp_path / "one", first, **config)
        write_peft(tmp_path / "two", second, r=3, use_rslora=True, **config)
        opened.extend(StoredAdapter(tmp_path / name) for name in ("one", "two"))
        weights = factors_given or (1.0, 1.0)
        deltas = [
            {m: dense(first, m, 6 / 4) for m in (Q, K, DOWN)},
            {m: dense(second, m, 6 / 3**0.5) for m in (Q, DOWN)},
        ]
        return [Weighted(a, w) for a, w in zip(opened, weights, strict=True)], deltas

    yield make
    for each in opened:
        each.close()


def made(content, tmp_path):
    """The dense updates of an adapter that was made, as it is read again."""
    write_adapter(tmp_path / "made", content)
    with StoredAdapter(tmp_path / "made") as found:
        return {m: found.update(m).dense() for m in found.modules}


@pytest.mark.parametrize("method", ["linear", "cat"])
def test_a_weighted_sum_is_exact(adapters, tmp_path, method):
    weighted, (one, two) = adapters(0.7, -0.3)
    content, fitted = join(weighted, method=method)
    found = made(content, tmp_path)
    assert {f.module: f.rank for f in fitted} == {Q: 7, K: 4, DOWN: 7}
    assert all(f.error == 0 for f in fitted)
    for module in (Q, DOWN):
        assert difference(found[module], 0.7 * one[module] - 0.3 * two[module]) < 1e-6
    assert difference(found[K], 0.7 * one[K]) < 1e-6


def test_a_sum_does_not_depend_on_the_order(adapters, tmp_path):
    weighted, _ = adapters(0.7, 0.3)
    for method, rank in (("linear", None), ("svd", 3)):
        options = Options(rank)
        forth, _ = join(weighted, method=method, options=options)
        back, _ = join(weighted[::-1], method=method, options=options)
        one, other = (made(content, tmp_path / str(i)) for i, content in enumerate((forth, back)))
        for module in one:
            assert difference(one[module], other[module]) < 1e-6


@pytest.mark.parametrize("method", ["linear", "svd"])
def test_cutting_a_sum_loses_what_is_said(adapters, tmp_path, method):
    weighted, (one, two) = adapters()
    content, fitted = join(weighted, method=method, options=Options(2))
    found, errors = made(content, tmp_path), {f.module: f.error for f in fitted}
    total = one[Q] + two[Q]
    s = np.linalg.svd(total, compute_uv=False)
    assert errors[Q] == pytest.approx(np.sqrt((s[2:] ** 2).sum() / (s**2).sum()), rel=1e-6)
    lost = np.linalg.norm(found[Q] - total) / np.linalg.norm(total)
    assert lost == pytest.approx(errors[Q], rel=1e-4)


def test_svd_cuts_to_the_largest_rank_by_default(adapters):
    weighted, _ = adapters()
    _, fitted = join(weighted, method="svd")
    assert {f.rank for f in fitted} == {4}


def test_the_mean_is_of_those_that_agree_with_the_sum():
    """By hand: signs of the sums +, −, +, 0."""
    votes = [np.array([[3.0, -2.0, 0.0, 1.0]]), np.array([[-1.0, -4.0, 5.0, -1.0]])]
    assert elected_mean(votes).tolist() == [[3, -3, 5, 0]]


@given(st.floats(0.01, 1.0), st.integers(0, 50))
@settings(max_examples=20, deadline=None)
def test_the_bound_keeps_the_share_of_all_modules(tmp_path_factory, density, seed):
    """The k-th largest magnitude, as sorting everything finds it."""
    folder = tmp_path_factory.mktemp("bound")
    shapes = {Q: (7, 5), K: (3, 11)}
    write_peft(folder, factors(shapes, rank=2, seed=seed), r=2)
    with StoredAdapter(folder) as adapter:
        deltas = [adapter.update(m).dense() for m in adapter.modules]
        bound = magnitude_bound(adapter, density)
    sizes = np.sort(np.abs(np.concatenate([d.reshape(-1) for d in deltas])))[::-1]
    kept = max(1, int(density * len(sizes)))
    assert bound == (0 if kept == len(sizes) else sizes[kept - 1])


def test_ties_is_its_formula(adapters):
    weighted, deltas = adapters(1.0, 0.5)
    combine = combination("ties", weighted, Options(density=0.3))
    parts = [(w, w.adapter.update(Q)) for w in weighted]
    found = combine(Q, parts).delta
    votes = []
    for w, delta in zip(weighted, deltas, strict=True):
        everything = np.sort(np.abs(np.concatenate([d.reshape(-1) for d in delta.values()])))
        bound = everything[-int(0.3 * len(everything))]
        votes.append(w.factor * np.where(np.abs(delta[Q]) >= bound * (1 - 1e-6), delta[Q], 0))
    sign = np.sign(sum(votes))
    agree = [(np.sign(v) == sign) & (v != 0) for v in votes]
    total = sum(np.where(a, v, 0) for a, v in zip(agree, votes, strict=True))
    wanted = total / np.maximum(sum(a.astype(int) for a in agree), 1)
    assert difference(found, wanted) < 1e-5


def test_ties_of_one_adapter_with_itself_is_what_was_kept(adapters):
    weighted, (one, _) = adapters()
    twice = [weighted[0], replace(weighted[0])]
    combine = combination("ties", twice, Options(density=1.0))
    parts = [(w, w.adapter.update(Q)) for w in twice]
    assert difference(combine(Q, parts).delta, one[Q]) < 1e-6


def test_dare_keeps_a_share_and_makes_up_for_the_rest(adapters):
    weighted, (one, _) = adapters()
    combine = combination("dare", weighted[:1], Options(density=0.25, seed=3))
    found = combine(Q, [(weighted[0], weighted[0].adapter.update(Q))]).delta
    kept = found != 0
    assert kept.mean() == pytest.approx(0.25, abs=0.03)
    assert difference(found[kept], 4 * one[Q][kept]) < 1e-6


def test_dare_is_a_function_of_the_seed_and_not_of_the_order(adapters):
    weighted, _ = adapters(0.7, 0.3)

    def result(given, seed):
        combine = combination("dare", given, Options(density=0.5, seed=seed))
        return combine(Q, [(w, w.adapter.update(Q)) for w in given]).delta

    assert difference(result(weighted, 1), result(weighted[::-1], 1)) < 1e-6
    assert difference(result(weighted, 1), result(weighted, 2)) > 0.1


def test_what_no_low_rank_holds_is_cut_and_the_error_is_said(adapters, tmp_path):
    weighted, _ = adapters()
    content, fitted = join(weighted, method="dare", options=Options(8, 0.5))
    combine = combination("dare", weighted, Options(None, 0.5))
    wanted = combine(Q, [(w, w.adapter.update(Q)) for w in weighted]).delta
    found = made(content, tmp_path)[Q]
    lost = np.linalg.norm(found - wanted) / np.linalg.norm(wanted)
    assert {f.module: f.error for f in fitted}[Q] == pytest.approx(lost, rel=1e-4)


def test_biases_of_b_add_up(tmp_path):
    tensors = [factors({Q: (64, 64)}, seed=i) for i in range(2)]
    tensors[0][f"{PREFIX}{Q}.lora_B.bias"] = np.arange(64, dtype=np.float32)
    target = {"target_modules": ["q_proj"]}
    one = write_peft(tmp_path / "one", tensors[0], lora_bias=True, **target)
    two = write_peft(tmp_path / "two", tensors[1], **target)
    with StoredAdapter(one) as first, StoredAdapter(two) as second:
        content, _ = join([Weighted(first, 0.5), Weighted(second)])
    write_adapter(tmp_path / "made", content)
    with StoredAdapter(tmp_path / "made") as found:
        assert difference(found.update(Q).bias, 0.5 * 1.5 * np.arange(64)) < 1e-6


@pytest.mark.parametrize(
    ("config", "error", "word"),
    [
        ({"use_dora": True}, UnsupportedError, "DoRA"),
        ({"init_lora_weights": "pissa"}, UnsupportedError, "pissa"),
    ],
)
def test_what_is_no_sum_is_refused(tmp_path, config, error, word):
    tensors = factors({Q: (64, 64)})
    if "use_dora" in config:
        tensors[f"{PREFIX}{Q}.lora_magnitude_vector"] = np.ones(64, np.float32)
    write_peft(tmp_path, tensors, target_modules=["q_proj"], **config)
    with StoredAdapter(tmp_path) as adapter, pytest.raises(error, match=word):
        join([Weighted(adapter), Weighted(adapter)])


def test_whole_tensors_go_along_once_and_are_not_added(tmp_path):
    tensors = factors() | {f"{PREFIX}model.norm.weight": np.arange(64, dtype=np.float32)}
    one = write_peft(tmp_path / "one", tensors, modules_to_save=["norm"])
    two = write_peft(tmp_path / "two")
    with StoredAdapter(one) as first, StoredAdapter(two) as second:
        content, _ = join([Weighted(second, 0.5), Weighted(first)])
        assert content.settings.lora.modules_to_save == ("norm",)
        name = f"{PREFIX}model.norm.weight"
        assert np.array_equal(content.tensors[name], np.arange(64))
        for given in ([Weighted(first, 0.5), Weighted(second)], [Weighted(first)] * 2):
            with pytest.raises(UnsupportedError, match=r"model\.norm\.weight"):
                join(given)


@pytest.mark.parametrize(
    ("method", "options", "word"),
    [
        ("ties", Options(density=1.5), "density of 1.5"),
        ("linear", Options(density=0.5), "not for linear"),
        ("svd", Options(rank=0), "rank of 0"),
        ("cat", Options(rank=2), "cat keeps all ranks"),
    ],
)
def test_options_out_of_range_are_refused(adapters, method, options, word):
    weighted, _ = adapters()
    with pytest.raises(ConfigError, match=word):
        join(weighted, method=method, options=options)


def test_adapters_of_two_shapes_are_refused(tmp_path):
    one = write_peft(tmp_path / "one")
    two = write_peft(tmp_path / "two", factors({Q: (32, 64)}), target_modules=["q_proj"])
    with (
        StoredAdapter(one) as first,
        StoredAdapter(two) as second,
        pytest.raises(ConfigError, match=r"q_proj: 32 by 64 in .*two, 64 by 64"),
    ):
        join([Weighted(first), Weighted(second)])


# ---- resizing ----------------------------------------------------------------------------------


def test_resizing_keeps_the_largest_singular_values(tmp_path):
    made_of = factors()
    with StoredAdapter(write_peft(tmp_path / "a", made_of)) as adapter:
        content, fitted = resize(adapter, rank=2)
    found = made(content, tmp_path)
    for module in (Q, K, DOWN):
        wanted = np.linalg.svd(dense(made_of, module, 6 / 4), compute_uv=False)
        s = np.linalg.svd(found[module], compute_uv=False)
        assert s[:2] == pytest.approx(wanted[:2], rel=1e-5)
        assert s[2] < 1e-5 * s[0]
    assert [f.rank for f in fitted] == [2, 2, 2]


def test_resizing_by_energy_gives_each_module_the_rank_it_needs(tmp_path):
    tensors = factors()
    tensors[f"{PREFIX}{Q}.lora_A.weight"][1:] *= 1e-3  # of rank 1, but for a thousandth
    with StoredAdapter(write_peft(tmp_path / "a", tensors)) as adapter:
        content, fitted = resize(adapter, energy=0.95)
    ranks = {f.module: f.rank for f in fitted}
    assert ranks[Q] == 1
    assert ranks[DOWN] > 1
    assert all(f.error <= np.sqrt(0.05) for f in fitted)
    assert {m: content.settings.lora.rank_of(m) for m in ranks} == ranks


def test_resizing_keeps_lengths_of_rows_and_whole_tensors(tmp_path):
    tensors = factors({Q: (64, 64)}) | {
        f"{PREFIX}{Q}.lora_magnitude_vector": np.arange(1, 65, dtype=np.float32),
        f"{PREFIX}model.norm.weight": np.ones(64, np.float32),
    }
    config = {"use_dora": True, "modules_to_save": ["norm"], "target_modules": ["q_proj"]}
    with StoredAdapter(write_peft(tmp_path / "a", tensors, **config)) as adapter:
        content, _ = resize(adapter, rank=1)
    write_adapter(tmp_path / "made", content)
    with StoredAdapter(tmp_path / "made") as found:
        assert np.array_equal(found.update(Q).magnitude, np.arange(1, 65))
        assert list(found.whole) == ["model.norm.weight"]


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ({"rank": 4}, "has rank 4, and 4 is asked for"),
        ({"energy": 1.5}, "energy of 1.5"),
        ({}, "a rank or a share"),
        ({"rank": 2, "energy": 0.5}, "a rank or a share"),
    ],
)
def test_a_rank_that_cuts_nothing_is_refused(tmp_path, given, word):
    with (
        StoredAdapter(write_peft(tmp_path)) as adapter,
        pytest.raises(ConfigError, match=word),
    ):
        resize(adapter, **given)
