"""mergekit's configs: what they say, and every mistake in them with its line."""

from textwrap import dedent

import pytest

from entrenar_common.errors import ConfigError, UnsupportedError
from entrenar_core.merge.config import read_merge_config
from entrenar_core.merge.reference import AdapterRef, ModelRef
from entrenar_core.merge.settings import Choice
from entrenar_core.merge.token_choice import ModelToken, TokenChoice, Zero
from merge_models import config_of, ref, stand_ins


@pytest.fixture(autouse=True)
def methods():
    with stand_ins():
        yield


TWO = """\
merge_method: ties
base_model: a
models:
  - model: a
  - model: b
    parameters:
      weight: 0.5
"""


def refused(text, kind=ConfigError):
    """The message of what is wrong, with the details and the hint."""
    with pytest.raises(kind) as caught:
        config_of(dedent(text))
    return "\n".join([caught.value.message, *caught.value.details, caught.value.hint or ""])


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("org/model", ModelRef("org/model")),
        ("org/model@v1", ModelRef("org/model", "v1")),
        ("m+lora", ModelRef("m", None, AdapterRef("lora"))),
        ("m@v1+lora@v2", ModelRef("m", "v1", AdapterRef("lora", "v2"))),
    ],
)
def test_a_model_is_a_path_a_revision_and_an_adapter(text, wanted):
    assert ModelRef.parse(text) == wanted
    assert str(wanted) == text


def test_a_section_says_the_same_as_the_text():
    config = config_of(
        "merge_method: linear\nmodels:\n  - model: {model: {path: m+1, revision: v1}, lora: l@v2}\n"
        "    parameters: {weight: 1}\n"
    )
    assert config.models == (ModelRef("m+1", "v1", AdapterRef("l", "v2")),)


def test_models_are_in_the_order_of_their_texts():
    names = ["b", "a@v2", "a", "a+l"]
    assert [str(model) for model in sorted(map(ref, names))] == sorted(names)


@pytest.mark.parametrize("text", ["a@b@c", "a+b+c", "", "@v1", "a@", "a+"])
def test_what_is_no_name_of_a_model_is_refused_with_its_line(text):
    message = refused(f"merge_method: karcher\nmodels:\n  - model: b\n  - model: '{text}'\n")
    assert "line 4" in message


def test_another_architecture_than_the_models_is_unsupported():
    text = TWO + "  - model:\n      model: c\n      override_architecture: X\n"
    message = refused(text, UnsupportedError)
    assert "line 10" in message and "override_architecture" in message


def test_models_are_one_slice_of_all_layers_with_the_base_added():
    config = config_of("merge_method: ties\nbase_model: a\nmodels:\n  - model: b\n")
    (part,) = config.slices
    assert [(str(s.model), s.layers) for s in part.sources] == [("b", None), ("a", None)]
    assert [str(model) for model in config.models] == ["a", "b"]


def test_slices_have_ranges_and_may_have_a_base_of_their_own():
    config = config_of(
        dedent("""\
        merge_method: slerp
        slices:
          - sources:
              - {model: a, layer_range: [0, 2]}
              - {model: b, layer_range: [1, 3]}
            base_model: b
            parameters: {t: 0.5}
        """)
    )
    (part,) = config.slices
    assert part.base == ref("b")
    assert [source.layers for source in part.sources] == [(0, 2), (1, 3)]
    assert part.parameters == {"t": (Choice((0.5,)),)}


def test_a_module_called_default_holds_models_and_parameters():
    config = config_of(
        "merge_method: linear\nmodules:\n  default:\n    models: [{model: a}]\n"
        "    parameters: {weight: 1}\nparameters: {weight: 2}\n"
    )
    levels = config.levels(config.slices[0], ref("a"))
    assert [level.get("weight") for level in levels] == [
        None, None, (Choice((1.0,)),), (Choice((2.0,)),)
    ]  # fmt: skip


def test_types_may_be_called_as_torch_calls_them():
    config = config_of(TWO + "dtype: torch.bfloat16\nout_dtype: float16\n")
    assert (config.dtype, config.out_dtype) == ("bfloat16", "float16")


def test_numbers_may_be_text_as_yaml_1_1_reads_them():
    config = config_of(TWO + "parameters: {lambda: '1e-4', normalize: yes, int8_mask: 1}\n")
    assert config.parameters == {
        "lambda": (Choice((1e-4,)),),
        "normalize": (Choice((True,)),),
        "int8_mask": (Choice((True,)),),
    }


def test_a_tokenizer_has_rules_for_tokens():
    config = config_of(
        TWO
        + dedent("""\
        tokenizer:
          source: union
          pad_to_multiple_of: 64
          tokens:
            <a>: {source: b}
            <b>: {source: {kind: zero}, force: true}
            <c>: {source: {kind: model_token, model: a, token_id: 7}}
            7: {force: true}
        chat_template: auto
        """)
    )
    choice = config.tokenizer
    assert choice is not None
    assert (choice.source, choice.pad_to_multiple_of) == ("union", 64)
    assert choice.tokens == {
        "<a>": TokenChoice(ref("b")),
        "<b>": TokenChoice(Zero(), force=True),
        "<c>": TokenChoice(ModelToken(ref("a"), token_id=7)),
        "7": TokenChoice(None, force=True),
    }
    assert config.chat_template == "auto"


@pytest.mark.parametrize(
    ("source", "wanted"), [("union", "union"), ("base", "base"), ("b@v", ModelRef("b", "v"))]
)
def test_a_tokenizer_source_is_all_the_base_or_a_model(source, wanted):
    config = config_of(TWO + f"tokenizer_source: {source}\n")
    assert config.tokenizer is not None
    assert config.tokenizer.source == wanted


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("merge_methd: ties\n" + TWO, 1, "did you mean merge_method?"),
        (TWO.replace("ties", "tis"), 1, "did you mean ties?"),
        (TWO.replace("ties", "[1]"), 1, "must be text, not a list"),
        (TWO.replace("parameters:", "params:"), 6, "did you mean parameters?"),
        (TWO.replace("weight:", "wieght:"), 7, "did you mean weight?"),
        (TWO.replace("0.5", "heavy"), 7, "must be a finite number, not 'heavy'"),
        (TWO.replace("0.5", ".inf"), 7, "must be a finite number"),
        (TWO.replace("0.5", "true"), 7, "must be a finite number, not true"),
        (TWO.replace("0.5", "[]"), 7, "the list is empty"),
        (TWO.replace("0.5", "null"), 7, "must be a finite number, not null"),
        (TWO.replace("0.5", "[1, x]"), 7, "not 'x'"),
        (TWO.replace("0.5", "{filter: mlp}"), 7, "value: is missing"),
        (TWO.replace("0.5", "{filter: 3, value: 1}"), 7, "must be text, not 3"),
        (TWO.replace("0.5", "[{filter: mlp, value: 1}, 2]"), 7, "as the others do"),
        (TWO.replace("0.5", "[{filters: mlp, value: 1}]"), 7, "did you mean filter?"),
        (TWO.replace("weight: 0.5", "density: 0"), 7, "greater than 0 and at most 1, not 0"),
        (TWO.replace("weight: 0.5", "density: [1, 1.5]"), 7, "at most 1, not 1.5"),
        (
            TWO.replace("weight: 0.5", "density:\n      - filter: mlp\n        value: [1, 0]"),
            9, "at most 1, not 0",
        ),
        (TWO + "parameters: {normalize: maybe}\n", 8, "must be true or false, not 'maybe'"),
        (TWO + "parameters: [1]\n", 8, "must be a section of parameters"),
        (TWO + "dtype: float64\n", 8, "float32, bfloat16, float16, not 'float64'"),
        (TWO + "out_dtype: 16\n", 8, "not 16"),
        (TWO + "chat_template: [1]\n", 8, "must be text"),
        (TWO + "slices: []\n", 8, "is given besides models"),
        (TWO + "tokenizer_source: base\ntokenizer: {source: base}\n", 9, "besides tokenizer_sou"),
        (TWO + "tokenizer: {tokens: {x: {source: c}}}\n", 8, "c is none of the models"),
        (TWO + "tokenizer: {pad_to_multiple_of: 0}\n", 8, "of at least 1, not 0"),
        (TWO + "tokenizer: {tokens: [x]}\n", 8, "must be a section of tokens"),
        (TWO + "tokenizer: {tokens: {x: {source: {kind: one}}}}\n", 8, "model_token or zero"),
        (
            TWO + "tokenizer: {tokens: {x: {source: {kind: model_token, model: a}}}}\n",
            8, "either token or token_id",
        ),
        (TWO + "tokenizer: {tokens: {x: {force: 2}}}\n", 8, "must be true or false, not 2"),
        (TWO + "tokenizer: {sourc: base}\n", 8, "did you mean source?"),
        (TWO + "  - model: b\n", 3, "b is given twice"),
        (TWO + "  - parameters: {weight: 1}\n", 8, "model: is missing"),
        (TWO + "  - model: 3\n", 8, "must name a model, not 3"),
        (TWO.replace("base_model: a", "base_model: null"), 3, "ties needs a base_model"),
        (TWO.replace("ties", "model_stock").replace("weight: 0.5", "filter_wise: true"), 3,
         "merges at least 3 models, and there are 2"),
        (TWO.replace("ties", "nuslerp"), 3, "merges 2 models besides the base, and there are 1"),
        ("merge_method: linear\nmodels: []\n", 2, "a list of at least one, not an empty list"),
        ("merge_method: linear\nmodels: a\n", 2, "a list of at least one, not 'a'"),
        ("merge_method: linear\nmodels: [a]\n", 2, "must be a section of keys, not 'a'"),
        ("merge_method: linear\nmodules: {text: {models: []}}\n", 2, "text: unknown key"),
        ("merge_method: linear\nmodules: {}\n", 2, "has no module default"),
        ("merge_method: linear\nmodules: {default: {}}\n", 2, "either models or slices"),
        ("merge_method: karcher\nmodels: [{model: a}]\nparameters: {max_iter: 1.5}\n", 3,
         "must be a whole number, not 1.5"),
        ("merge_method: karcher\nmodels: [{model: a}]\nparameters: {max_iter: 0}\n", 3,
         "must be at least 1, not 0"),
    ],
)  # fmt: skip
def test_a_mistake_is_reported_with_its_line(text, line, says):
    message = refused(text)
    assert f"merge.yaml: line {line}: " in message
    assert says in message


SLICE = """\
merge_method: slerp
base_model: a
slices:
  - sources:
      - model: a
        layer_range: [0, 2]
      - model: b
        layer_range: RANGE
    parameters: {t: 0.5}
"""


@pytest.mark.parametrize(
    ("given", "line", "says"),
    [
        ("[0, 3]", 4, "they are of 2 and 3 layers"),
        ("[2, 2]", 8, "no layer is from 2 up to 2"),
        ("[2]", 8, "must be two whole numbers"),
        ("[-1, 1]", 8, "must be two whole numbers"),
        ("[0, 1.5]", 8, "must be two whole numbers"),
        ("2", 8, "must be two whole numbers, not 2"),
        ("null", 8, "is missing"),
    ],
)
def test_a_range_that_is_none_is_reported_with_its_line(given, line, says):
    message = refused(SLICE.replace("RANGE", given))
    assert f"line {line}: " in message
    assert says in message


def test_a_base_that_a_slice_does_not_have_is_a_mistake():
    message = refused(SLICE.replace("RANGE", "[0, 2]").replace("base_model: a", "base_model: c"))
    assert "line 4: slices.0: the base_model c is not among the models" in message


def test_all_mistakes_are_reported_together_in_the_order_of_their_lines():
    with pytest.raises(ConfigError) as caught:
        config_of(TWO.replace("0.5", "x") + "dtype: int8\nparams: 1\n")
    assert caught.value.message == "merge.yaml: 3 problems"
    assert [detail.partition(":")[0] for detail in caught.value.details] == [
        "line 7", "line 8", "line 9"
    ]  # fmt: skip


def test_a_base_that_cannot_be_read_is_one_mistake():
    message = refused(TWO.replace("base_model: a", "base_model: a@b@c"))
    assert message.startswith("merge.yaml: line 2: base_model: cannot read 'a@b@c'")
    text = SLICE.replace("RANGE", "[0, 2]").replace(
        "    parameters", "    base_model: 3\n    parameters"
    )
    assert refused(text).startswith("merge.yaml: line 9: slices.0.base_model: must name a model")


def test_names_in_messages_cannot_steer_a_terminal():
    message = refused(TWO.replace("ties", '"t\\e[2Jies"') + '"\\e[2J": 1\n')
    assert "\x1b" not in message


@pytest.mark.parametrize("text", ["", "- a\n", "linear\n"])
def test_a_file_of_something_else_is_refused(text):
    assert "must be a section of keys" in refused(text)


def test_a_config_without_models_is_refused():
    assert "it names no models" in refused("merge_method: linear\n")


def test_several_merges_in_one_file_are_refused(tmp_path):
    path = tmp_path / "many.yaml"
    path.write_text(f"name: first\n{TWO}---\n{TWO}")
    with pytest.raises(ConfigError, match=r"many\.yaml:9:1") as caught:
        read_merge_config(path)
    assert "one merge" in str(caught.value.hint)


def test_what_has_no_effect_in_mergekit_is_noted():
    config = config_of(
        dedent("""\
        name: mine
        merge_method: ties
        base_model: a
        slices:
          - sources:
              - model: a
                layer_range: [0, 1]
                parameters:
                  density: 0
              - model: b
                layer_range: [0, 1]
                parameters:
                  weight: 1
                  normalize: false
            residual_weight: 0.5
        parameters:
          t: anything
        """)
    )
    assert sorted(config.notes) == [
        "line 14: normalize is one for all models: given for one it has no effect; it belongs "
        "under the parameters of the slice or the config",
        "line 15: residual_weight has no effect",
        "line 17: t is no parameter of ties and has no effect",
        "line 1: name has no effect",
        "line 9: density is not used of the base in ties and has no effect",
    ]


@pytest.mark.parametrize("given", ["tokenizer_source: base", "tokenizer: {source: base}"])
def test_with_no_base_the_first_model_gives_the_tokenizer(given):
    config = config_of(f"merge_method: linear\nmodels: [{{model: b}}, {{model: a}}]\n{given}\n")
    assert config.notes == ("line 3: with no base_model, b gives the tokenizer",)
