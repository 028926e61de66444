"""Every way in which a model was broken is found by the rule that is about it; whole ones pass."""

import numpy as np
import pytest

from broken_models import BROKEN, broken_copy
from entrenar_inspect.finding import RULES, Status
from entrenar_inspect.validate import Depth, validate
from whole_models import MAKERS, WholeModels

pytestmark = pytest.mark.tier2


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return WholeModels(tmp_path_factory.mktemp("whole"))


def rules_of(path, depth=Depth.VALUES):
    verdict = validate(str(path), depth=depth)
    return [finding.rule for check in verdict.checks for finding in check.findings]


@pytest.mark.parametrize("name", MAKERS)
def test_a_whole_model_has_no_finding(name, whole):
    assert rules_of(whole(name)) == []


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_broken_is_found_by_its_rule(name, whole, tmp_path):
    verdict = validate(str(broken_copy(name, whole, tmp_path / "broken")))
    found = [finding.rule for check in verdict.checks for finding in check.findings]
    assert BROKEN[name].rule in found
    assert verdict.valid == all(RULES[rule][0] is Status.WARNING for rule in found)


def test_every_rule_is_tried():
    untried = RULES.keys() - {breakage.rule for breakage in BROKEN.values()}
    assert untried == set()


def entries_of_header(raw):
    """Where the entries of tensors are in the header of a safetensors file."""
    end = 8 + int.from_bytes(raw[:8], "little")
    return raw.index(b'"lm_head.weight"'), raw.rindex(b"}}", 0, end) + 1


def test_a_bit_flipped_in_an_entry_of_the_header_is_a_problem(whole, tmp_path):
    folder = whole.copy("llama", tmp_path / "model")
    path = folder / "model.safetensors"
    raw = path.read_bytes()
    begin, end = entries_of_header(raw)
    rng = np.random.default_rng(20_240)
    passed = []
    for at, bit in zip(rng.integers(begin, end, 120), rng.integers(0, 8, 120), strict=True):
        flipped = bytearray(raw)
        flipped[at] ^= 1 << int(bit)
        path.write_bytes(flipped)
        if validate(str(folder), depth=Depth.STRUCTURE).valid:
            passed.append((int(at), int(bit)))
    assert passed == []


def test_a_bit_flipped_in_an_entry_of_a_gguf_header_is_a_problem(whole, tmp_path):
    path = whole.copy("gguf f32", tmp_path / "model")
    raw = path.read_bytes()
    begin = raw.index(b"token_embd.weight") - 8
    last = raw.rindex(b"blk.5.")
    rng = np.random.default_rng(20_241)
    passed = []
    for at, bit in zip(rng.integers(begin, last, 120), rng.integers(0, 8, 120), strict=True):
        flipped = bytearray(raw)
        flipped[at] ^= 1 << int(bit)
        path.write_bytes(flipped)
        if validate(str(path), depth=Depth.STRUCTURE).valid:
            passed.append((int(at), int(bit)))
    assert passed == []


def test_the_highest_bit_of_an_exponent_is_found_in_any_tensor(whole, tmp_path):
    folder = whole.copy("llama", tmp_path / "model")
    path = folder / "model.safetensors"
    raw = path.read_bytes()
    start = 8 + int.from_bytes(raw[:8], "little")
    rng = np.random.default_rng(20_242)
    passed = []
    for element in rng.integers(0, (len(raw) - start) // 4, 20):
        flipped = bytearray(raw)
        flipped[start + 4 * int(element) + 3] ^= 0x40
        path.write_bytes(flipped)
        if validate(str(folder)).valid:
            passed.append(int(element))
    assert passed == []


def test_any_flipped_bit_is_found_where_a_hash_is_recorded(whole, tmp_path):
    folder = whole.copy("checkpoint", tmp_path / "model")
    rng = np.random.default_rng(20_243)
    passed = []
    for _ in range(10):
        path = folder / rng.choice(["model.safetensors", "config.json", "tokenizer.json"])
        raw = bytearray(path.read_bytes())
        at, bit = int(rng.integers(len(raw))), int(rng.integers(8))
        raw[at] ^= 1 << bit
        path.write_bytes(raw)
        if "V121" not in rules_of(folder):
            passed.append((path.name, at, bit))
        raw[at] ^= 1 << bit
        path.write_bytes(raw)
    assert passed == []


def test_a_nan_in_a_large_tensor_is_found_with_its_place(tmp_path):
    from entrenar_core.io.safetensors import write_file

    large = np.random.default_rng(0).standard_normal((2048, 2048), np.float32)  # 16 MiB
    large[1234, 567] = np.nan
    write_file(tmp_path / "large.safetensors", {"w": large})
    verdict = validate(str(tmp_path / "large.safetensors"))
    found = [finding for check in verdict.checks for finding in check.findings]
    assert [(f.rule, f.tensor, f.place) for f in found] == [("V401", "w", "[1234, 567]")]
