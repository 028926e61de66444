"""What inspecting an adapter says, beside numpy on the dense product."""

import numpy as np
import pytest

from adapter_files import DOWN, PREFIX, K, Q, dense, factors, write_peft
from entrenar_common.errors import ConfigError
from entrenar_core.io.safetensors import SafetensorsFolder
from entrenar_core.lora.inspection import compare, facts, split_name
from entrenar_core.lora.stored import StoredAdapter
from model_files import SMALL, write_model


def inspected(tmp_path, tensors=None, *, base=None, **config):
    with StoredAdapter(write_peft(tmp_path / "a", tensors, **config), tolerant=True) as adapter:
        return facts(adapter, base=base)


def test_ranks_and_norms_are_those_of_the_product(tmp_path):
    found = {m.name: m for m in inspected(tmp_path).modules}
    for name in (Q, K, DOWN):
        s = np.linalg.svd(dense(factors(), name, 6 / 4), compute_uv=False)[:4]
        shares, energy = s / s.sum(), np.cumsum(s**2) / (s**2).sum()
        module = found[name]
        assert module.effective_rank == pytest.approx(np.exp(-(shares * np.log(shares)).sum()))
        assert module.energy_rank == 1 + np.flatnonzero(energy >= 0.9)[0]
        assert module.norm == pytest.approx(np.linalg.norm(s))
        assert module.largest == pytest.approx(s[0])


def test_counts_are_those_of_the_tensors(tmp_path):
    tensors = factors() | {f"{PREFIX}model.norm.weight": np.ones(64, np.float32)}
    tensors[f"{PREFIX}{Q}.lora_B.weight"][:] = 0
    found = inspected(tmp_path, tensors, modules_to_save=["norm"])
    assert found.parameters == sum(array.size for array in tensors.values())
    assert found.nbytes == 4 * found.parameters
    assert found.sparsity == pytest.approx(64 * 4 / (found.parameters - 64))
    assert [whole.name for whole in found.whole] == ["model.norm.weight"]
    assert [m.effective_rank for m in found.modules if m.name == Q] == [0]


def test_norms_are_relative_to_the_base(tmp_path):
    base = write_model(tmp_path / "base", SMALL)
    found = {m.name: m.relative_norm for m in inspected(tmp_path, base=base).modules}
    with SafetensorsFolder(base) as file:
        weight = np.array(file.read(f"{DOWN}.weight"), np.float64)
    wanted = np.linalg.norm(dense(factors(), DOWN, 6 / 4)) / np.linalg.norm(weight)
    assert found[DOWN] == pytest.approx(wanted, rel=1e-6)


def test_a_base_of_another_model_is_refused(tmp_path):
    base = write_model(tmp_path / "base", SMALL | {"hidden_size": 32})
    with pytest.raises(ConfigError, match="does not fit"):
        inspected(tmp_path, base=base)


def test_numbers_that_are_not_finite_are_counted_and_nothing_is_made_of_them(tmp_path):
    tensors = factors()
    tensors[f"{PREFIX}{Q}.lora_A.weight"][0, :3] = (np.nan, np.inf, -np.inf)
    found = inspected(tmp_path, tensors)
    assert found.not_finite == 3
    module = next(m for m in found.modules if m.name == Q)
    assert (module.not_finite, module.norm, module.effective_rank) == (3, None, None)


def test_contradictions_are_kept(tmp_path):
    assert len(inspected(tmp_path, r=8).contradictions) == 3


@pytest.mark.parametrize(
    ("name", "kind", "layer"),
    [
        ("model.layers.12.mlp.up_proj", "mlp.up_proj", 12),
        ("transformer.h.0.attn.c_attn", "attn.c_attn", 0),
        ("lm_head", "lm_head", None),
        ("3.weight", "weight", 3),
    ],
)
def test_a_name_is_split_at_its_block(name, kind, layer):
    assert split_name(name) == (kind, layer)


def test_an_adapter_is_the_same_as_itself_and_not_as_another(tmp_path):
    one = write_peft(tmp_path / "one", factors(seed=1))
    two = write_peft(tmp_path / "two", factors({Q: (64, 64)}, seed=2), target_modules=["q_proj"])
    with StoredAdapter(one) as a, StoredAdapter(two) as b:
        same, other = compare(a, a), compare(a, b)
    assert same.cosine == pytest.approx(1)
    assert all(m.outputs == pytest.approx(1, abs=1e-4) for m in same.shared)
    assert [m.name for m in other.shared] == [Q]
    assert set(other.only_first) == {K, DOWN}
    first, second = (dense(factors(seed=i), Q, 1.5) for i in (1, 2))
    wanted = (first * second).sum() / np.linalg.norm(first) / np.linalg.norm(second)
    assert other.cosine == pytest.approx(wanted, rel=1e-5)


def test_adapters_of_two_shapes_cannot_be_compared(tmp_path):
    one = write_peft(tmp_path / "one")
    two = write_peft(tmp_path / "two", factors({Q: (32, 64)}), target_modules=["q_proj"])
    with (
        StoredAdapter(one) as a,
        StoredAdapter(two) as b,
        pytest.raises(ConfigError, match=r"q_proj: \[64, 64\]"),
    ):
        compare(a, b)
