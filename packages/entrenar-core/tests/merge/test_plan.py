"""Which tensors become which, and every way in which models do not fit together."""

import pytest

from entrenar_common.errors import ConfigError
from entrenar_core.merge.places import in_layer, is_computed, is_optional, place_of
from entrenar_core.merge.plan import Source
from merge_models import PARTS, Toy, by_name, llama, planned, ref, stand_ins


@pytest.fixture(autouse=True)
def methods():
    with stand_ins():
        yield


EMBEDDINGS, HEAD, NORM = "model.embed_tokens.weight", "lm_head.weight", "model.norm.weight"
UP = "model.layers.{}.mlp.up_proj.weight"
KARCHER = "merge_method: karcher\nmodels: [{model: a}, {model: b}]\n"
SLERP = "merge_method: slerp\nbase_model: a\nmodels: [{model: a}, {model: b}]\n"
SLERP += "parameters: {t: 0.5}\n"
STACK = """\
merge_method: passthrough
slices:
  - sources: [{model: a, layer_range: [0, 3]}]
  - sources: [{model: b, layer_range: [1, 4]}]
"""


def misfits(text, **models):
    """The lines of the error about what does not fit, and its hint."""
    with pytest.raises(ConfigError, match="do not fit together") as caught:
        planned(text, **models)
    return list(caught.value.details), caught.value.hint


def without(toy, *names):
    """The model without some of its tensors."""
    toy.shapes = {name: shape for name, shape in toy.shapes.items() if name not in names}
    return toy


def inputs(tensor):
    return [(str(source.model), source.name) for source in tensor.inputs]


@pytest.mark.parametrize(
    ("name", "part", "layer", "rest"),
    [
        ("model.layers.12.mlp.up_proj.weight", "layers", 12, "layers.*.mlp.up_proj.weight"),
        ("transformer.h.3.attn.c_attn.bias", "layers", 3, "h.*.attn.c_attn.bias"),
        ("h.3.attn.c_attn.bias", "layers", 3, "h.*.attn.c_attn.bias"),
        ("bert.encoder.layer.0.output.dense.weight", "layers", 0,
         "encoder.layer.*.output.dense.weight"),
        ("distilbert.transformer.layer.1.ffn.lin1.bias", "layers", 1, "layer.*.ffn.lin1.bias"),
        ("transformer.layer.1.ffn.lin1.bias", "layers", 1, "layer.*.ffn.lin1.bias"),
        ("model.embed_tokens.weight", "before", None, "embed_tokens.weight"),
        ("transformer.wte.weight", "before", None, "wte.weight"),
        ("wpe.weight", "before", None, "wpe.weight"),
        ("roberta.embeddings.LayerNorm.bias", "before", None, "embeddings.LayerNorm.bias"),
        ("embeddings.word_embeddings.weight", "before", None, "embeddings.word_embeddings.weight"),
        ("gpt_neox.embed_in.weight", "before", None, "gpt_neox.embed_in.weight"),
        ("embed_out.weight", "after", None, "embed_out.weight"),
        ("model.norm.weight", "after", None, "norm.weight"),
        ("transformer.ln_f.bias", "after", None, "ln_f.bias"),
        ("lm_head.weight", "after", None, "lm_head.weight"),
        ("bert.pooler.dense.weight", "after", None, "pooler.dense.weight"),
        ("cls.predictions.transform.dense.weight", "after", None,
         "cls.predictions.transform.dense.weight"),
        ("classifier.weight", "after", None, "classifier.weight"),
        ("vocab_layer_norm.weight", "after", None, "vocab_layer_norm.weight"),
    ],
)  # fmt: skip
def test_a_name_says_where_its_tensor_is(name, part, layer, rest):
    place = place_of(name)
    assert (place.part, place.layer, place.rest) == (part, layer, rest)


def test_the_first_number_is_the_layers():
    name = "encoder.block.2.layer.0.SelfAttention.q.weight"
    assert place_of(name).layer == 2
    assert in_layer(name, 7) == "encoder.block.7.layer.0.SelfAttention.q.weight"


@pytest.mark.parametrize(
    ("name", "computed", "optional"),
    [
        ("h.0.attn.bias", True, False),
        ("transformer.h.0.attn.masked_bias", True, False),
        ("transformer.h.0.attn.c_attn.bias", False, False),
        ("model.layers.0.self_attn.rotary_emb.inv_freq", True, False),
        ("bert.embeddings.position_ids", True, False),
        ("lm_head.weight", False, True),
        ("lm_head.decoder.weight", False, True),
        ("lm_head.dense.weight", False, False),
        ("model.layers.0.self_attn.q_proj.bias", False, True),
        ("model.layers.0.self_attn.q_proj.weight", False, False),
        ("bert.pooler.dense.bias", False, True),
    ],
)
def test_some_tensors_are_computed_and_some_need_not_be_there(name, computed, optional):
    assert (is_computed(name), is_optional(name)) == (computed, optional)


def test_every_tensor_is_planned_once_in_the_order_of_the_model():
    result = planned(KARCHER)
    layers = [f"model.layers.{layer}.{part}" for layer in range(4) for part in PARTS]
    assert [tensor.name for tensor in result.tensors] == [EMBEDDINGS, *layers, NORM, HEAD]
    assert result.layers == 4
    assert [t.name for t in result.tensors if t.is_vocabulary] == [EMBEDDINGS, HEAD]


def test_layers_are_numbered_anew_and_the_ends_are_of_the_first_and_the_last_slice():
    result = planned(STACK)
    tensors = by_name(result)
    assert result.layers == 6
    assert [inputs(tensors[UP.format(layer)]) for layer in range(6)] == [
        [("a", UP.format(0))], [("a", UP.format(1))], [("a", UP.format(2))],
        [("b", UP.format(1))], [("b", UP.format(2))], [("b", UP.format(3))],
    ]  # fmt: skip
    assert inputs(tensors[EMBEDDINGS]) == [("a", EMBEDDINGS)]
    assert inputs(tensors[NORM]) == [("b", NORM)]
    assert inputs(tensors[HEAD]) == [("b", HEAD)]


def test_a_model_may_be_in_several_slices():
    again = planned(STACK.replace("model: b", "model: a"))
    assert again.layers == 6


def test_the_order_of_models_does_not_matter_where_the_method_does_not_see_it():
    text = (
        "merge_method: ties\nbase_model: c\nmodels:\n"
        "  - {model: z, parameters: {weight: 1}}\n  - {model: b, parameters: {weight: 2}}\n"
    )
    tensor = by_name(planned(text))[NORM]
    assert tensor.base == Source(ref("c"), NORM)
    assert [str(source.model) for source in tensor.models] == ["b", "z"]
    assert tensor.per_model["weight"] == (2, 1)


def test_it_is_the_configs_where_the_method_sees_it():
    text = (
        "merge_method: nuslerp\nmodels:\n"
        "  - {model: z, parameters: {weight: 1}}\n  - {model: b, parameters: {weight: 2}}\n"
    )
    tensor = by_name(planned(text))[NORM]
    assert [str(source.model) for source in tensor.models] == ["z", "b"]
    assert tensor.per_model["weight"] == (1, 2)


def test_a_tied_models_embeddings_stand_in_for_the_output_matrix():
    tensors = by_name(planned(SLERP, b=llama(tied=True)))
    assert inputs(tensors[HEAD]) == [("a", HEAD), ("b", EMBEDDINGS)]
    assert tensors[HEAD].is_vocabulary
    assert not tensors[HEAD].is_copied


def test_tied_models_have_no_output_matrix():
    tensors = by_name(planned(SLERP, a=llama(tied=True), b=llama(tied=True)))
    assert HEAD not in tensors


def test_filters_see_a_stand_in_as_what_it_stands_for():
    text = KARCHER.replace("karcher", "linear")
    text += "parameters: {weight: [{filter: lm_head, value: 3}, {value: 1}]}\n"
    tensors = by_name(planned(text, b=llama(tied=True)))
    assert tensors[HEAD].per_input["weight"] == (3, 3)
    assert tensors[EMBEDDINGS].per_input["weight"] == (1, 1)


def test_a_prefix_of_the_body_need_not_be_written():
    long = {"transformer.wte.weight": (9, 4), "transformer.h.0.ln_1.weight": (4,)}
    short = {name.removeprefix("transformer."): shape for name, shape in long.items()}
    text = "merge_method: karcher\nbase_model: b\nmodels: [{model: a}]\n"
    result = planned(text, a=Toy(long, 1, "gpt2"), b=Toy(short, 1, "gpt2"))
    assert [inputs(tensor) for tensor in result.tensors] == [
        [("a", "transformer.wte.weight"), ("b", "wte.weight")],
        [("a", "transformer.h.0.ln_1.weight"), ("b", "h.0.ln_1.weight")],
    ]
    assert [tensor.name for tensor in result.tensors] == list(short)


def test_what_a_model_computes_is_not_merged():
    toy = llama()
    toy.shapes["model.layers.0.self_attn.rotary_emb.inv_freq"] = (4,)
    result = planned(KARCHER, a=toy)
    assert len(result.tensors) == len(llama().shapes)


BIAS = "model.layers.0.self_attn.q_proj.bias"


def with_bias():
    toy = llama()
    toy.shapes[BIAS] = (8,)
    return toy


def test_the_only_one_of_an_optional_tensor_is_copied_where_the_method_says_so():
    for owner in ("a", "b"):
        tensor = by_name(planned(SLERP, **{owner: with_bias()}))[BIAS]
        assert tensor.is_copied
        assert inputs(tensor) == [(owner, BIAS)]
        assert tensor.settings == {}


def test_it_is_copied_of_the_base_only_where_the_method_says_that():
    nearswap = SLERP.replace("slerp", "nearswap")
    assert by_name(planned(nearswap, a=with_bias()))[BIAS].is_copied
    details, _ = misfits(nearswap, b=with_bias())
    assert details == [f"{BIAS}: b has it, a not"]


STOCK = "merge_method: model_stock\nbase_model: a\nmodels: [{model: b}, {model: c}]\n"


def test_it_is_left_out_with_a_note_where_the_method_says_that():
    tensors = by_name(planned(STOCK, a=with_bias()))
    assert inputs(tensors[BIAS]) == [("a", BIAS)]
    result = planned(STOCK, b=with_bias(), c=with_bias())
    assert BIAS not in by_name(result)
    assert result.notes == (f"{BIAS} is left out: not in a",)


def test_the_models_that_have_an_optional_tensor_are_merged_where_they_are_enough():
    text = "merge_method: ties\nbase_model: a\nmodels: [{model: b}, {model: c}]\n"
    text += "parameters: {weight: 1}\n"
    tensor = by_name(planned(text, a=with_bias(), c=with_bias()))[BIAS]
    assert inputs(tensor) == [("a", BIAS), ("c", BIAS)]
    assert tensor.per_model["weight"] == (1,)
    details, _ = misfits(text, b=with_bias(), c=with_bias())
    assert details == [f"{BIAS}: b and c have it, a not"]


def test_all_misfits_are_named_at_once():
    other = without(llama(), NORM)
    other.shapes[UP.format(1)] = (24, 8)
    other.shapes["model.extra.weight"] = (1,)
    details, hint = misfits(KARCHER, b=other)
    assert details == [
        f"{UP.format(1)}: (16, 8) in a, (24, 8) in b",
        f"{NORM}: a has it, b not",
        "model.extra.weight: b has it, a not",
    ]
    assert "slices" in hint


def test_of_many_misfits_ten_are_shown_and_the_rest_counted():
    other = llama()
    other.shapes = {name: (*shape, 1) for name, shape in other.shapes.items()}
    details, _ = misfits(KARCHER, b=other)
    assert len(details) == 11
    assert details[-1] == f"and {len(other.shapes) - 10} more"


def test_models_of_two_architectures_are_named():
    details, hint = misfits(KARCHER, b=llama(model_type="qwen2"))
    assert details == ["architectures: a is llama, b is qwen2"]
    assert "one architecture" in hint


def test_numbers_that_are_no_floats_are_named():
    details, hint = misfits(KARCHER, b=llama(kind="int8"))
    assert details[0] == f"{EMBEDDINGS}: int8 in b"
    assert "convert" in hint


def test_rows_for_other_tokens_need_a_choice_of_tokenizer():
    details, hint = misfits(KARCHER, b=llama(rows=33))
    assert details == [
        f"{EMBEDDINGS}: (32, 8) in a, (33, 8) in b",
        f"{HEAD}: (32, 8) in a, (33, 8) in b",
    ]
    assert "tokenizer_source" in hint
    assert planned(KARCHER + "tokenizer_source: union\n", b=llama(rows=33)).layers == 4


def test_with_it_their_width_must_be_the_same():
    other = llama(rows=33)
    other.shapes[HEAD] = (33, 9)
    details, _ = misfits(KARCHER + "tokenizer_source: union\n", b=other)
    assert details == [f"{HEAD}: (32, 8) in a, (33, 9) in b"]


def test_slices_of_different_models_must_fit_together_too():
    wide = {name: (shape[0], 9)[: len(shape)] for name, shape in llama().shapes.items()}
    details, _ = misfits(STACK, b=Toy(wide))
    assert f"{UP.format(0)} and {UP.format(1)}: (16, 8) in a, (16, 9) in b" in details


def test_layers_of_one_model_may_be_of_several_shapes():
    def toy():
        model = llama()
        model.shapes[UP.format(2)] = (24, 8)
        return model

    assert planned(KARCHER, a=toy(), b=toy()).layers == 4


def test_the_ends_of_a_stack_must_be_of_one_number_of_tokens():
    details, hint = misfits(STACK, b=llama(rows=40))
    assert details == [f"{EMBEDDINGS} and {HEAD}: (32,) in a, (40,) in b"]
    assert "tokenizer_source" in hint
    assert planned(STACK + "tokenizer_source: union\n", b=llama(rows=40)).layers == 6


def test_a_range_beyond_the_layers_is_reported_with_its_line():
    with pytest.raises(ConfigError, match=r"line 4: .*it ends at 4, and b has 3 layers"):
        planned(STACK, b=llama(3))


def test_models_of_other_numbers_of_layers_are_reported_with_their_line():
    with pytest.raises(ConfigError, match=r"line 2: models: .*a has 4, b has 3") as caught:
        planned(KARCHER, b=llama(3))
    assert "slices" in str(caught.value.hint)
