"""What a setting is for a tensor: gradients, filters, and which of several places counts."""

from fractions import Fraction

import pytest

from entrenar_common.errors import ConfigError
from entrenar_core.merge.settings import Choice, evaluate
from merge_models import by_name, planned, ref, stand_ins


@pytest.fixture(autouse=True)
def methods():
    with stand_ins():
        yield


UP = "model.layers.{}.mlp.up_proj.weight"
QUERY = "model.layers.{}.self_attn.q_proj.weight"


@pytest.mark.parametrize(
    ("values", "t", "wanted"),
    [
        ((3.0,), 0.7, 3.0),
        ((0.0, 1.0), 0.25, 0.25),
        ((0.0, 4.0, 1.0), 0.5, 4.0),
        ((0.0, 4.0, 1.0), 0.75, 2.5),
        ((0.0, 4.0, 1.0), 1.0, 1.0),
        ((True, False), 0.99, True),
        ((True, False), 1.0, False),
        (("a", "b", "c"), 0.6, "b"),
    ],
)
def test_numbers_change_along_lines_and_others_in_steps(values, t, wanted):
    assert evaluate((Choice(values),), "any", t) == wanted


@pytest.mark.parametrize(("name", "wanted"), [("mlp.up", 1.0), ("self_attn.q", 2.0), ("norm", 3.0)])
def test_the_first_filter_in_the_name_counts(name, wanted):
    setting = (Choice((1.0,), "mlp"), Choice((2.0,), "attn"), Choice((3.0,), "*"), Choice((4.0,)))
    assert evaluate(setting, name, 0.0) == wanted


def test_no_filter_in_the_name_is_no_value():
    assert evaluate((Choice((1.0,), "mlp"),), "norm", 0.0) is None


def test_a_gradient_goes_from_the_first_layer_to_the_last():
    tensors = by_name(
        planned(
            "merge_method: slerp\nbase_model: a\nmodels: [{model: a}, {model: b}]\n"
            "parameters: {t: [0, 1]}\n"
        )
    )
    for layer in range(4):
        assert tensors[UP.format(layer)].shared["t"] == float(Fraction(layer, 3))
    assert tensors["model.embed_tokens.weight"].shared["t"] == 0
    assert tensors["model.norm.weight"].shared["t"] == 0


def test_of_a_slice_of_one_layer_a_gradient_is_at_its_end():
    tensors = by_name(
        planned(
            "merge_method: slerp\nbase_model: a\nslices:\n  - sources:\n"
            "    - {model: a, layer_range: [1, 2]}\n    - {model: b, layer_range: [2, 3]}\n"
            "parameters: {t: [0.25, 0.75]}\n"
        )
    )
    assert tensors[UP.format(0)].shared["t"] == 0.75


LEVELS = """\
merge_method: linear
modules:
  default:
    slices:
      - sources:
          - model: a
            layer_range: [0, 2]
            parameters: {weight: [{filter: mlp, value: 1}]}
          - model: b
            layer_range: [0, 2]
        parameters: {weight: [{filter: mlp, value: 2}, {filter: q_proj, value: 3}]}
    parameters: {weight: [{filter: norm, value: 4}]}
parameters: {weight: 5}
"""


def test_the_place_nearest_to_a_model_counts_and_a_filter_without_the_tensor_passes_on():
    tensors = by_name(planned(LEVELS))
    found = {
        name: tensors[name].per_input["weight"]
        for name in (UP.format(0), QUERY.format(0), "model.norm.weight", "lm_head.weight")
    }
    assert found == {
        UP.format(0): (1, 2),
        QUERY.format(0): (3, 3),
        "model.norm.weight": (4, 4),
        "lm_head.weight": (5, 5),
    }


def test_filters_see_a_models_own_layer_and_what_all_share_that_of_the_result():
    tensors = by_name(
        planned(
            "merge_method: linear\nslices:\n"
            "  - sources: [{model: a, layer_range: [0, 1]}]\n"
            "  - sources: [{model: b, layer_range: [3, 4]}]\n"
            "parameters:\n"
            "  weight: [{filter: layers.3., value: 3}, {value: 0}]\n"
            "  normalize: [{filter: layers.3., value: false}]\n"
        )
    )
    assert tensors[UP.format(1)].per_input["weight"] == (3,)
    assert tensors[UP.format(1)].shared["normalize"] is True


def test_what_is_not_given_is_the_methods_default():
    tensors = by_name(
        planned(
            "merge_method: ties\nbase_model: a\nmodels: [{model: b, parameters: {weight: 1}}]\n"
        )
    )
    tensor = tensors[UP.format(0)]
    assert tensor.shared == {
        "int8_mask": False, "normalize": True, "rescale": False, "lambda": 1.0
    }  # fmt: skip
    assert tensor.per_model == {"weight": (1.0,), "density": (1.0,)}
    assert tensor.settings["density"] == (1.0,)


def test_what_each_input_has_begins_with_the_base():
    config = (
        "merge_method: linear\nbase_model: b\nmodels:\n"
        "  - {model: c, parameters: {weight: 3}}\n"
        "  - {model: b, parameters: {weight: 2}}\n"
        "  - {model: a, parameters: {weight: 1}}\n"
    )
    tensor = by_name(planned(config))[UP.format(0)]
    assert tensor.base is None  # to linear it is a model as all others
    assert [source.model for source in tensor.models] == [ref("a"), ref("b"), ref("c")]
    assert tensor.per_input == {"weight": (1, 2, 3)}


def test_a_value_that_must_be_there_is_missed_by_parameter_model_and_tensor():
    config = (
        "merge_method: ties\nbase_model: a\nmodels:\n"
        "  - {model: b, parameters: {weight: 1}}\n"
        "  - {model: c, parameters: {weight: [{filter: mlp, value: 1}]}}\n"
    )
    with pytest.raises(ConfigError, match=r"weight has no value for model\.embed_tok.* of c"):
        planned(config)


def test_one_that_all_share_is_missed_by_parameter_and_tensor():
    config = "merge_method: slerp\nbase_model: a\nmodels: [{model: b}]\n"
    with pytest.raises(ConfigError, match=r"t has no value for model\.embed_tokens\.weight"):
        planned(config)


def test_between_whole_numbers_there_may_be_none():
    config = "merge_method: karcher\nmodels: [{model: b}]\nparameters: {max_iter: [1, 2]}\n"
    with pytest.raises(ConfigError, match=r"max_iter is 1\.33333 for model\.layers\.1\."):
        planned(config)
