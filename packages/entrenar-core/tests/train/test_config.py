"""Strict configurations: defaults, refusals, and problems that name their place."""

from typing import Annotated, ClassVar, Literal

import pytest
from pydantic import Field, ValidationError

from entrenar_common.errors import ConfigError, NotFoundError, RefusedError, UnsupportedError
from entrenar_core.train.config import (
    Later,
    Setting,
    StrictModel,
    TrainingConfig,
    json_schema,
    load_config,
)


class Extra(StrictModel):
    later_keys: ClassVar[frozenset[str]] = frozenset({"lora"})
    size: int = Field(1, ge=1, description="how large it is")
    precision: Annotated[Literal["fp32"], Later()] = "fp32"
    names: tuple[str, ...] = Field((), strict=False)


class Whole(StrictModel):
    training: TrainingConfig = Field(default_factory=lambda: TrainingConfig.model_validate({}))
    extra: Extra = Field(default_factory=lambda: Extra.model_validate({}))


@pytest.fixture
def load(tmp_path):
    def load_text(text, overrides=(), settings=()):
        path = tmp_path / "train.yaml"
        path.write_text(text)
        return load_config(Whole, path, overrides, settings=settings)

    return load_text


@pytest.fixture
def problems(load, tmp_path):
    """The message and the details of the error, without the folder of the file."""

    def load_badly(text, overrides=(), kind=ConfigError):
        with pytest.raises(kind) as caught:
            load(text, overrides)
        assert caught.value.hint
        return str(caught.value).replace(f"{tmp_path}/", ""), list(caught.value.details)

    return load_badly


# --- the training section ---------------------------------------------------------------------


def test_one_epoch_is_trained_when_no_length_is_given():
    assert TrainingConfig.model_validate({}).epochs == 1


def test_max_steps_replaces_the_default_epoch():
    config = TrainingConfig.model_validate({"max_steps": 5})
    assert (config.epochs, config.max_steps) == (None, 5)


def test_epochs_and_max_steps_together_are_refused():
    with pytest.raises(ValidationError, match="together with epochs"):
        TrainingConfig.model_validate({"epochs": 1, "max_steps": 5})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("learning_rate", float("nan")),
        ("learning_rate", float("inf")),
        ("learning_rate", 0.0),
        ("learning_rate", 10**400),
        ("learning_rate", "1e-4"),
        ("max_grad_norm", float("inf")),
        ("weight_decay", -0.1),
        ("beta1", 1.0),
        ("epsilon", 0.0),
        ("min_learning_rate_ratio", 1.1),
        ("batch_size", 0),
        ("batch_size", True),
        ("batch_size", 8.0),
        ("batch_size", None),
        ("max_steps", -1),
        ("warmup_steps", -1),
        ("seed", -1),
        ("seed", 2**63),
        ("schedule", "cosin"),
        ("evaluate_every", 0),
    ],
)
def test_a_value_that_makes_no_sense_is_refused(key, value):
    with pytest.raises(ValidationError, match=key):
        TrainingConfig.model_validate({key: value})


def test_a_whole_number_does_for_a_real_one():
    assert TrainingConfig.model_validate({"max_grad_norm": 1}).max_grad_norm == 1.0


def test_a_configuration_cannot_be_changed_after_it_was_checked():
    config = TrainingConfig.model_validate({})
    with pytest.raises(ValidationError, match="frozen"):
        config.batch_size = 0


def test_every_field_says_what_it_is():
    assert all(field.description for field in TrainingConfig.model_fields.values())


def test_the_schema_states_defaults_and_limits_and_nothing_that_is_refused():
    schema = json_schema(Whole)
    training = schema["$defs"]["TrainingConfig"]
    assert training["properties"]["learning_rate"]["default"] == 1e-3
    assert training["properties"]["learning_rate"]["exclusiveMinimum"] == 0
    assert training["properties"]["mixed_precision"]["enum"] == ["fp32", "bf16", "fp16", "auto"]
    assert training["additionalProperties"] is False
    assert "lora" not in str(schema)


# --- loading ----------------------------------------------------------------------------------


def test_the_file_is_laid_over_the_defaults(load):
    config, located = load("training:\n  learning_rate: 1e-4\n")
    assert (config.training.learning_rate, config.training.batch_size) == (1e-4, 8)
    assert located.line_of(("training", "learning_rate")) == 2


@pytest.mark.parametrize("text", ["", "training:\n", "training: null\nextra: {}\n"])
def test_an_empty_file_or_section_means_the_defaults(load, text):
    assert load(text)[0] == Whole()


def test_a_missing_file_is_not_found(tmp_path):
    with pytest.raises(NotFoundError):
        load_config(Whole, tmp_path / "absent.yaml")


def test_without_a_file_the_overrides_alone_make_the_configuration():
    config, _ = load_config(Whole, None, [("training.epochs", "3")])
    assert config.training.epochs == 3


def test_an_override_wins_over_the_file_and_says_so(load):
    config, located = load("training:\n  batch_size: 2\n", [("training.batch_size", "4")])
    assert config.training.batch_size == 4
    assert located.where(("training", "batch_size")) == "--set training.batch_size"


def test_an_override_may_be_a_list(load):
    assert load("", [("extra.names", "[a, b]")])[0].extra.names == ("a", "b")


def test_the_last_override_of_a_key_counts(load):
    config, _ = load("", [("extra.size", "2"), ("extra.size", "3")])
    assert config.extra.size == 3


def test_overrides_come_after_settings(load):
    setting = Setting(("extra", "size"), 2, "--size")
    assert load("", [("extra.size", "3")], [setting])[0].extra.size == 3


# --- problems ---------------------------------------------------------------------------------


def test_a_single_problem_is_the_message(problems):
    message, details = problems("training:\n  epochs: 1\n  learing_rate: 1e-4\n")
    assert message == (
        "train.yaml: line 3: training.learing_rate: unknown key; did you mean learning_rate?"
    )
    assert details == []


def test_every_problem_is_reported_at_once_in_the_order_of_the_lines(problems):
    message, details = problems(
        "extra:\n  size: big\nnothing: 1\ntraining:\n  beta1: 2\n  batch_size: .nan\n  seed: -1\n",
        [("training.epochs", "[1]")],
    )
    assert message == "train.yaml: 6 problems"
    assert details == [
        "line 2: extra.size: must be a whole number, not 'big'",
        "line 3: nothing: unknown key",
        "line 5: training.beta1: must be less than 1, not 2",
        "line 6: training.batch_size: must be a whole number, not nan",
        "line 7: training.seed: must be at least 0, not -1",
        "--set training.epochs: must be a whole number, not a list",
    ]


def test_a_key_in_the_wrong_section_is_pointed_to_the_right_one(problems):
    message, _ = problems("batch_size: 4\n")
    assert message.endswith("batch_size: unknown key; did you mean training.batch_size?")


def test_a_problem_of_an_override_names_the_option(problems):
    message, _ = problems("training:\n  epochs: 2\n", [("training.epochs", "0")])
    assert message == "--set training.epochs: must be at least 1, not 0"


def test_the_hint_of_a_single_problem_explains_the_key(load):
    with pytest.raises(ConfigError) as caught:
        load("extra: {size: 0}")
    assert caught.value.hint == "size: how large it is"


@pytest.mark.parametrize("key", ["", "a..b", "training.", ".training"])
def test_an_override_without_a_key_is_a_problem(problems, key):
    message, _ = problems("", [(key, "3")])
    assert "not a key" in message


@pytest.mark.parametrize("key", ["training.epochs.more", "extra.names.0.more"])
def test_an_override_below_a_value_is_a_problem(problems, key):
    message, _ = problems("training: {epochs: 1}\nextra: {names: [a]}", [(key, "3")])
    assert f"--set {key}: there is no such key" in message


def test_an_override_can_change_an_item_of_a_list(load):
    config, located = load("extra: {names: [a, b]}", [("extra.names.1", "c")])
    assert config.extra.names == ("a", "c")
    assert located.where(("extra", "names", 1)) == "--set extra.names.1"


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("extra.names.2", "the items of extra.names are 0 to 1"),
        ("extra.names.first", "say which of them, as in extra.names.0.first"),
    ],
)
def test_an_override_of_an_item_that_a_list_has_not_is_a_problem(problems, key, text):
    message, _ = problems("extra: {names: [a, b]}", [(key, "c")])
    assert f"--set {key}: is in a list of 2: {text}" in message


def test_an_override_that_does_not_parse_is_a_problem(problems):
    message, _ = problems("", [("extra.names", "[a")])
    assert message.startswith("--set extra.names: value:1:3: ")


def test_an_override_cannot_carry_a_tag(load):
    with pytest.raises(RefusedError):
        load("", [("extra.names", "[!!python/name:os.system x]")])


@pytest.mark.parametrize("text", ["- 1\n", "just text\n", "3\n"])
def test_a_file_that_holds_no_sections_is_a_problem(problems, text):
    message, _ = problems(text)
    assert "must be a section of keys" in message


def test_a_section_that_is_a_value_is_a_problem(problems):
    message, _ = problems("training: 3\n")
    assert message == "train.yaml: line 1: training: must be a section of keys, not 3"


def test_both_lengths_are_a_problem_at_the_second(problems):
    message, _ = problems("training:\n  max_steps: 3\n  epochs: 2\n")
    assert "line 2: training.max_steps: cannot be given together with epochs" in message


def test_control_characters_in_a_key_are_shown_escaped(problems):
    message, _ = problems('"a\\e[31m": 1\n')
    assert "\x1b" not in message
    assert "\\x1b[31m" in message


def test_a_long_value_is_shortened(problems):
    message, _ = problems(f"extra: {{size: {'x' * 5000}}}\n")
    assert len(message) < 150


# --- what comes later -------------------------------------------------------------------------


def test_a_value_of_a_later_version_is_unsupported(problems):
    message, _ = problems("extra:\n  precision: int4\n", kind=UnsupportedError)
    assert message == (
        "train.yaml: line 2: extra.precision: 'int4' is not supported yet, only 'fp32' is"
    )


def test_a_key_of_a_later_version_is_unsupported(problems):
    message, _ = problems("extra:\n  lora: {rank: 4}\n", kind=UnsupportedError)
    assert message == "train.yaml: line 2: extra.lora: not supported yet"


def test_several_of_a_later_version_are_unsupported_together(problems):
    text = "extra:\n  lora: 1\n  precision: int4\n"
    message, details = problems(text, kind=UnsupportedError)
    assert (message, len(details)) == ("train.yaml: 2 problems", 2)


def test_among_mistakes_what_is_unsupported_is_one_problem_more(problems):
    _, details = problems("extra:\n  lora: 1\n  size: 0\n")
    assert details == [
        "line 2: extra.lora: not supported yet",
        "line 3: extra.size: must be at least 1, not 0",
    ]


def test_a_value_of_the_wrong_type_is_a_mistake_and_not_of_a_later_version(problems):
    message, _ = problems("extra: {precision: 16}\n")
    assert "must be 'fp32', not 16" in message
