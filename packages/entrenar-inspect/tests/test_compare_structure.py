"""What `compare` says of two models by their headers: tensors, names and keys."""

import numpy as np
import pytest

from entrenar_common.errors import NotFoundError, UnsupportedError
from entrenar_inspect.artifact import SAFETENSORS, Artifact, Entry
from entrenar_inspect.compare import compare
from entrenar_inspect.compare_lines import lines_of
from entrenar_inspect.matching import prefixes
from entrenar_inspect.tensor_pairs import module_of

BLOCK = ("self_attn.q_proj.weight", "self_attn.o_proj.weight", "mlp.up_proj.weight")


class Reads:
    """Reads arrays by name."""

    def __init__(self, arrays):
        self.arrays = arrays

    def read(self, name):
        return self.arrays[name]

    def release(self, name):
        pass

    def close(self):
        pass


def artifact(tensors, spec="x", **options):
    """An artifact of these shapes, (dtype, shape) pairs, by name."""
    entries = [Entry(n, t, s, 4, "model.safetensors", 0) for n, (t, s) in tensors.items()]
    return Artifact(spec, SAFETENSORS, Reads({}), tensors=entries, files=(), **options)


def llama(layers, **more):
    names = [f"model.layers.{i}.{part}" for i in range(layers) for part in BLOCK]
    names += ["model.embed_tokens.weight", "lm_head.weight"]
    return dict.fromkeys(names, ("BF16", (4, 4))) | more


def lines(a, b, each=False):
    found = compare(artifact(a), artifact(b))
    return [f"{sign} {text}" for sign, text in lines_of(found.tensors, each=each)]


def test_whole_blocks_and_modules_of_one_side_are_one_line_each():
    a = llama(2) | {
        "model.pooler.dense.weight": ("F32", (4, 4)),
        "model.pooler.dense.bias": ("F32", (4,)),
    }
    assert lines(a, llama(3)) == [
        "- model.pooler.* (removed, 2 tensors)",
        "+ model.layers.2.* (3 tensors, new layer)",
    ]  # fmt: skip


def test_blocks_that_follow_each_other_are_one_line():
    assert lines(llama(8), llama(4)) == ["- model.layers.4–7.* (12 tensors, 4 removed layers)"]


def test_the_same_tensor_of_several_blocks_is_one_line():
    biases = {f"model.layers.{i}.self_attn.q_proj.bias": ("BF16", (4,)) for i in range(3)}
    assert lines(llama(3), llama(3) | biases) == [
        "+ model.layers.*.self_attn.q_proj.bias (3 tensors)"
    ]


def test_a_tensor_alone_says_its_type_and_shape():
    a = llama(1)
    head = a.pop("lm_head.weight")
    assert lines(a, llama(1, **{"lm_head.weight": head})) == ["+ lm_head.weight  BF16 [4, 4]"]


def test_other_shapes_and_types_say_both():
    changed = {
        "model.embed_tokens.weight": ("BF16", (9, 4)),
        "lm_head.weight": ("F32", (4, 4)),
    }
    assert lines(llama(1), llama(1) | changed) == [
        "~ model.embed_tokens.weight: shape [4, 4] → [9, 4]",
        "~ lm_head.weight: BF16 → F32",
    ]


def test_a_model_in_another_type_is_one_line():
    parts = {f"model.layers.0.{i}.weight": ("F32", (2,)) for i in "abcdefgh"}
    other = {name: ("BF16", shape) for name, (_, shape) in parts.items()}
    assert lines(parts, other) == ["~ all 8 tensors: F32 → BF16"]


def test_each_tensor_has_a_line_of_its_own_where_all_are_asked_for():
    assert len(lines(llama(2), llama(4), each=True)) == 2 * len(BLOCK)


@pytest.mark.parametrize(
    ("wrapped", "plain", "wanted"),
    [
        (["model.layers.0.w", "model.norm.w", "head.w"], ["layers.0.w", "norm.w"], ("model.", "")),
        (["bert.encoder.w", "cls.w"], ["encoder.w", "pooler.w"], ("bert.", "")),
        (["_orig_mod.model.a.w", "_orig_mod.b.w"], ["model.a.w", "b.w"], ("_orig_mod.", "")),
        (["module.a.w", "module.b.w"], ["_orig_mod.a.w"], ("module.", "_orig_mod.")),
        (["base_model.model.model.a.w"], ["model.a.w"], ("base_model.model.", "")),
        (["vision.tower.a.w", "vision.tower.b.w"], ["a.w", "b.w"], ("vision.tower.", "")),
        (["a.w", "b.w"], ["a.w", "b.w"], ("", "")),
        (["encoder.a.w", "encoder.b.w"], ["decoder.a.w", "decoder.b.w"], ("", "")),
    ],
)  # fmt: skip
def test_the_prefixes_without_which_most_names_are_equal_are_found(wrapped, plain, wanted):
    assert prefixes(wrapped, plain) == wanted
    assert prefixes(plain, wrapped) == wanted[::-1]


def test_names_that_differ_by_a_prefix_are_the_same_tensors_and_it_is_said():
    wrapped = {f"module.{name}": stored for name, stored in llama(2).items()}
    found = compare(artifact(llama(2)), artifact(wrapped, spec="wrapped"))
    assert found.same
    assert found.notes == ("names of wrapped are compared without 'module.'",)
    head = next(pair for pair in found.tensors if pair.name == "lm_head.weight")
    assert (head.name_in_a, head.name_in_b) == ("lm_head.weight", "module.lm_head.weight")


def test_keys_of_configs_make_models_differ_and_keys_about_files_do_not():
    a = artifact(llama(1), config={"rope_theta": 1e4, "pad": None, "transformers_version": "4"})
    b = artifact(llama(1), config={"rope_theta": 5e5, "pad": None, "transformers_version": "5"})
    found = compare(a, b)
    assert [(each.key, each.a, each.b) for each in found.config] == [("rope_theta", 1e4, 5e5)]
    assert not found.same


def test_metadata_of_files_is_compared_and_makes_no_difference():
    a = artifact(llama(1), metadata={"format": "pt", "ids": np.arange(99)})
    b = artifact(llama(1), metadata={"format": "np", "ids": np.arange(98)})
    found = compare(a, b)
    shown = [(each.key, each.a, each.b) for each in found.metadata]
    assert shown == [("format", "pt", "np"), ("ids", "99 values", "98 values")]
    assert found.same


def test_a_filter_leaves_other_tensors_and_configs_out():
    a, b = artifact(llama(2), config={"n": 2}), artifact(llama(3), config={"n": 3})
    assert compare(a, b, name_filter="*.layers.[01].*").same
    assert not compare(a, b, name_filter="*.q_proj.*").same


def test_a_filter_that_fits_no_name_is_refused():
    with pytest.raises(NotFoundError, match=r"fits 'q_proj'"):
        compare(artifact(llama(1)), artifact(llama(1)), name_filter="q_proj")


def test_headers_on_the_hub_are_compared_and_numbers_refused():
    remote = artifact(llama(1), spec="hf://org/name", fetched=lambda: 9)
    assert compare(remote, artifact(llama(1))).same
    with pytest.raises(UnsupportedError, match="hf://org/name"):
        compare(artifact(llama(1)), remote, values=True)


def test_tied_tensors_count_once():
    tied = artifact(llama(1))
    head = tied.tensors["lm_head.weight"]
    tied.tensors["lm_head.weight"] = Entry(
        head.name, head.dtype, head.shape, 4, "f", 0, "model.embed_tokens.weight"
    )
    found = compare(tied, artifact(llama(1)))
    assert found.b.parameters - found.a.parameters == head.elements


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("model.layers.3.self_attn.q_proj.weight", "q_proj"),
        ("blk.3.attn_q.weight", "attn_q"),
        ("score", "score"),
        ("classifier.0.bias", "classifier"),
    ],
)
def test_the_kind_of_module_is_the_part_before_the_last(name, module):
    assert module_of(name) == module
