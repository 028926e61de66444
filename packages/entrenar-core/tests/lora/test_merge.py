"""Merging into a base on a disk: W + s·B·A in whatever file."""

import json

import ml_dtypes
import numpy as np
import pytest

from adapter_files import PREFIX, Q, dense, factors, write_peft
from entrenar_core import models
from entrenar_core.convert.merge import write_merged_model
from entrenar_core.io.safetensors import (
    write_file,
    write_folder,
)
from entrenar_core.io.torch_save import write_torch
from entrenar_core.lora.base import Base
from entrenar_core.lora.changes import Weighted, changes
from entrenar_core.lora.merged import Merged
from entrenar_core.lora.stored import StoredAdapter
from entrenar_core.testing import difference
from merge_files import NAMES, merge, tensors_of
from model_files import CONFIGS, SMALL, write_model


@pytest.fixture
def base(tmp_path):
    return write_model(tmp_path / "base", SMALL)


@pytest.mark.parametrize("name", ["out", "out.safetensors", "out.bin"])
def test_changed_weights_are_the_formula_and_others_are_as_they_were(base, tmp_path, name):
    adapter = write_peft(tmp_path / "adapter")
    merge(base, adapter, tmp_path / name)
    before, after = tensors_of(base), tensors_of(tmp_path / name)
    assert before.keys() == after.keys()
    for module, weight in NAMES.items():
        wanted = before[weight] + dense(factors(), module, 6 / 4)
        assert difference(after[weight], wanted) < 1e-6
    others = before.keys() - NAMES.values()
    assert all(before[name].tobytes() == after[name].tobytes() for name in others)


@pytest.mark.parametrize("source", ["sharded", "lone.safetensors", "pytorch_model.bin"])
def test_a_base_may_be_shards_or_a_lone_file(base, tmp_path, source):
    wanted, there = tensors_of(base), tmp_path / source
    adapter = write_peft(tmp_path / "adapter")
    if source == "sharded":
        there.mkdir()
        write_folder(there, wanted, max_shard_bytes=50_000)
        assert len(list(there.glob("*.safetensors"))) > 2
    elif source.endswith("bin"):
        write_torch(there, wanted)
    else:
        write_file(there, wanted)
    merge(there, adapter, tmp_path / "out.safetensors")
    merge(base, adapter, tmp_path / "same.safetensors")
    assert (tmp_path / "out.safetensors").read_bytes() == (
        tmp_path / "same.safetensors"
    ).read_bytes()


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.float16], ids=["bf16", "f16"])
def test_narrow_weights_are_computed_in_float32_and_rounded_once(base, tmp_path, dtype):
    narrow = {n: a.astype(dtype) for n, a in tensors_of(base).items()}
    write_file(tmp_path / "narrow.safetensors", narrow)
    adapter = write_peft(tmp_path / "adapter")
    merge(tmp_path / "narrow.safetensors", adapter, tmp_path / "out.safetensors")
    after = tensors_of(tmp_path / "out.safetensors")
    for module, weight in NAMES.items():
        exact = narrow[weight].astype(np.float64) + dense(factors(), module, 6 / 4)
        noise = 1e-6 * np.abs(exact).max()  # float32's own rounding
        low, high = ((exact + n).astype(dtype).astype(np.float64) for n in (-noise, noise))
        found = after[weight].astype(np.float64)
        assert after[weight].dtype == dtype
        assert ((low <= found) & (found <= high)).all()


def test_weights_of_float64_are_added_to_in_float64(base, tmp_path):
    wide = {n: a.astype(np.float64) / 3 for n, a in tensors_of(base).items()}
    write_file(tmp_path / "wide.safetensors", wide)
    merge(tmp_path / "wide.safetensors", write_peft(tmp_path / "a"), tmp_path / "out.safetensors")
    after = tensors_of(tmp_path / "out.safetensors")
    wanted = wide[NAMES[Q]] + dense(factors(), Q, 6 / 4)
    assert difference(after[NAMES[Q]], wanted) < 1e-12


def test_a_type_can_be_asked_for(base, tmp_path):
    merge(base, write_peft(tmp_path / "adapter"), tmp_path / "out", dtype="bf16")
    assert {a.dtype for a in tensors_of(tmp_path / "out").values()} == {
        np.dtype(ml_dtypes.bfloat16)
    }
    assert json.loads((tmp_path / "out" / "config.json").read_text())["dtype"] == "bfloat16"
    models.load(tmp_path / "out")


def test_what_lies_beside_the_weights_is_copied(base, tmp_path):
    for name in ("1_Pooling", "2_Dense", "checkpoints"):
        (base / name).mkdir()
        (base / name / "config.json").write_text("{}")
    (base / "2_Dense" / "model.safetensors").write_bytes(b"weights of the part")
    (base / "pytorch_model.bin.index.json").write_text("{}")
    (base / ".hidden").write_text("x")
    merge(base, write_peft(tmp_path / "adapter"), tmp_path / "out")
    found = {str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*")}
    assert {"config.json", "tokenizer.json", "1_Pooling/config.json", "model.safetensors"} <= found
    assert not {".hidden", "pytorch_model.bin.index.json", "checkpoints"} & found
    dense_part = tmp_path / "out/2_Dense/model.safetensors"
    assert dense_part.read_bytes() == b"weights of the part"
    assert (tmp_path / "out/tokenizer.json").read_bytes() == (base / "tokenizer.json").read_bytes()


def test_a_scale_of_minus_one_takes_an_adapter_out_again(base, tmp_path):
    adapter = write_peft(tmp_path / "adapter")
    merge(base, adapter, tmp_path / "out")
    merge(tmp_path / "out", adapter, tmp_path / "back", factor=-1)
    before, after = tensors_of(base), tensors_of(tmp_path / "back")
    assert all(difference(after[name], before[name]) < 1e-5 for name in before)


def test_several_adapters_add_up_in_any_order(base, tmp_path):
    one = write_peft(tmp_path / "one", factors(seed=1))
    two = write_peft(tmp_path / "two", factors({Q: (64, 64)}, seed=2), target_modules=["q_proj"])
    with Base(base) as opened, StoredAdapter(one) as a, StoredAdapter(two) as b:
        for name, order in (("forth", (a, b)), ("back", (b, a))):
            given = [Weighted(x, 0.7 if x is a else -0.3) for x in order]
            found = changes(opened, given)
            write_merged_model(Merged(opened, found), tmp_path / f"{name}.safetensors")
    forth, back = (tensors_of(tmp_path / f"{n}.safetensors") for n in ("forth", "back"))
    assert all(difference(forth[name], back[name]) < 1e-6 for name in forth)
    delta = 0.7 * dense(factors(seed=1), Q, 1.5) - 0.3 * dense(factors(seed=2), Q, 1.5)
    assert difference(forth[NAMES[Q]], tensors_of(base)[NAMES[Q]] + delta) < 1e-6


@pytest.mark.parametrize("changed", ["lm_head", "model.embed_tokens"])
def test_a_tied_output_gets_a_matrix_of_its_own(tmp_path, changed):
    base = write_model(tmp_path / "base", CONFIGS["llama, tied"])
    shape = (300, 64)
    tensors = factors({changed: shape})
    delta = dense(tensors, changed, 6 / 4)
    if changed != "lm_head":
        a, b = (tensors[f"{PREFIX}{changed}.lora_{half}.weight"] for half in "AB")
        tensors = {
            f"{PREFIX}{changed}.lora_embedding_A": np.ascontiguousarray(b.T),
            f"{PREFIX}{changed}.lora_embedding_B": np.ascontiguousarray(a.T),
        }
    adapter = write_peft(tmp_path / "adapter", tensors, target_modules=[changed.split(".")[-1]])
    found = merge(base, adapter, tmp_path / "out")
    before = tensors_of(base)["model.embed_tokens.weight"]
    after = tensors_of(tmp_path / "out")
    wanted = {"lm_head.weight": before, "model.embed_tokens.weight": before}
    wanted[f"{changed}.weight"] = before + delta
    assert all(difference(after[name], array) < 1e-6 for name, array in wanted.items())
    assert json.loads((tmp_path / "out/config.json").read_text())["tie_word_embeddings"] is False
    assert "a matrix of its own" in found.notes[0]
    models.load(tmp_path / "out")


def test_other_modules_leave_a_tied_model_tied(tmp_path):
    base = write_model(tmp_path / "base", CONFIGS["llama, tied"])
    adapter = write_peft(tmp_path / "a", factors({Q: (64, 64)}), target_modules=["q_proj"])
    found = merge(base, adapter, tmp_path / "out")
    assert not found.untied
    assert "lm_head.weight" not in tensors_of(tmp_path / "out")


@pytest.mark.parametrize("stated", [True, False])
def test_gpt2_stores_some_weights_transposed_whatever_the_flag_says(tmp_path, stated):
    """PEFT writes the flag of the module that it came to last."""
    base = write_model(tmp_path / "base", CONFIGS["gpt2"])
    square, head = "transformer.h.0.attn.c_proj", "transformer.h.1.mlp.c_fc"
    tensors = factors({square: (64, 64), head: (96, 64)})
    targets = {"target_modules": ["c_proj", "c_fc"]}
    merge(
        base,
        write_peft(tmp_path / "a", tensors, fan_in_fan_out=stated, **targets),
        tmp_path / "out",
    )
    before, after = tensors_of(base), tensors_of(tmp_path / "out")
    for module in (square, head):
        name = f"{module}.weight"
        wanted = before[name] + dense(tensors, module, 1.5).T
        assert difference(after[name], wanted) < 1e-6


def test_names_may_have_a_first_part_more_or_less_than_the_base(base, tmp_path):
    """As where the base was saved without its head, or the adapter made for a model without one."""
    inner = {n.removeprefix("model."): a for n, a in tensors_of(base).items()}
    write_file(tmp_path / "inner.safetensors", inner)
    adapter = write_peft(tmp_path / "adapter")
    merge(tmp_path / "inner.safetensors", adapter, tmp_path / "out.safetensors")
    short = {name.replace("model.model.", "model."): a for name, a in factors().items()}
    merge(base, write_peft(tmp_path / "short", short), tmp_path / "short.safetensors")
    one, other = (
        tensors_of(tmp_path / "out.safetensors"),
        tensors_of(tmp_path / "short.safetensors"),
    )
    assert all(np.array_equal(other[n], one[n.removeprefix("model.")]) for n in other)


def test_nothing_of_the_base_is_in_memory_as_a_whole(tmp_path):
    """The pieces of a tensor are a few MiB, however large it is."""
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((4096, 2048), np.float32).astype(ml_dtypes.bfloat16)
    write_file(tmp_path / "base.safetensors", {"q_proj.weight": weight, "other.weight": weight})
    tensors = factors({"q_proj": weight.shape})
    adapter = write_peft(tmp_path / "adapter", tensors, target_modules=["q_proj"])
    with Base(tmp_path / "base.safetensors") as base, StoredAdapter(adapter) as stored:
        merged = Merged(base, changes(base, [Weighted(stored)]))
        for name in merged:
            assert max(piece.nbytes for piece in merged[name].pieces()) <= 8 * 2**20


@pytest.mark.parity
def test_a_base_in_nf4_is_decoded_and_written_as_floats(base, tmp_path):
    """The adapter was trained on the numbers that the codes stand for, so it is added to them."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("bitsandbytes")
    settings = transformers.BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True
    )
    model = transformers.AutoModelForCausalLM.from_pretrained(
        base, quantization_config=settings, dtype=torch.bfloat16
    )
    model.save_pretrained(tmp_path / "nf4")
    merge(tmp_path / "nf4", write_peft(tmp_path / "a"), tmp_path / "out")
    decoded = models.load(tmp_path / "nf4").named_parameters()
    after = tensors_of(tmp_path / "out")
    assert {array.dtype.name for array in after.values()} == {"bfloat16"}
    config = json.loads((tmp_path / "out/config.json").read_text())
    assert "quantization_config" not in config
    for module, name in NAMES.items():
        found = after[name].astype(np.float64)
        assert difference(found, decoded[name].data + dense(factors(), module, 1.5)) < 2**-8
    models.load(tmp_path / "out")
