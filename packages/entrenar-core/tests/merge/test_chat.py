"""The chat template of the result."""

import pytest

from entrenar_common.errors import ConfigError
from entrenar_core.data.tokenizer import Tokenizer
from entrenar_core.merge.chat import TEMPLATES, with_chat_template
from word_tokenizers import of_words

TEXT = "{% for m in messages %}{{ m.content }}{% endfor %}"
OTHER = "{{ messages[0].content }} and no more"
TALK = [
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello"},
    {"role": "user", "content": "Bye"},
]
SYSTEM = {"role": "system", "content": "Be kind"}


def tokenizer(template=None, **settings):
    chosen = {} if template is None else {"chat_template": template}
    return of_words("?", "<s>", "</s>", bos_token="<s>", eos_token="</s>", **chosen, **settings)


def chosen(choice, *templates):
    models = [tokenizer(template) for template in templates]
    return with_chat_template(tokenizer("its own"), choice, models=models).chat_template


@pytest.mark.parametrize("choice", [None, ""])
def test_without_a_choice_the_tokenizer_is_itself(choice):
    made = tokenizer(TEXT)
    assert with_chat_template(made, choice, models=[tokenizer(OTHER)]) is made


def test_a_text_is_the_template():
    assert chosen(TEXT, OTHER) == TEXT


def test_auto_is_the_template_that_most_models_have():
    assert chosen("auto", TEXT, OTHER, f"\n{OTHER} ", None) == OTHER


def test_auto_is_the_first_one_of_several_as_frequent_ones():
    assert chosen("auto", None, OTHER, TEXT) == OTHER


def test_auto_is_the_tokenizers_own_where_no_model_has_one():
    assert chosen("auto", None, None) == "its own"


def test_auto_takes_the_default_one_of_named_templates():
    named = [{"name": "tool_use", "template": TEXT}, {"name": "default", "template": OTHER}]
    assert chosen("auto", named) == OTHER


@pytest.mark.parametrize("choice", ["chatlm", "exaone", "{{ short }}", "no template at all" * 9])
def test_what_is_no_template_is_an_error(choice):
    with pytest.raises(ConfigError, match="is no template") as caught:
        chosen(choice)
    assert "alpaca, chatml, llama3, mistral" in caught.value.hint


def test_an_error_names_the_nearest_template():
    with pytest.raises(ConfigError) as caught:
        chosen("chatlm")
    assert "did you mean chatml?" in caught.value.hint


def test_the_template_is_saved_and_loaded_with_the_tokenizer(tmp_path):
    made = with_chat_template(tokenizer(OTHER), TEXT, models=())
    made.save(tmp_path)
    assert (tmp_path / "chat_template.jinja").read_text() == TEXT
    assert Tokenizer.load(tmp_path).chat_template == TEXT
    assert made.to_json()[1]["chat_template"] == TEXT


def rendered(name, messages, folder, *, prompt):
    transformers = pytest.importorskip("transformers")
    with_chat_template(tokenizer(), name, models=()).save(folder)
    loaded = transformers.AutoTokenizer.from_pretrained(folder)
    return loaded.apply_chat_template(messages, tokenize=False, add_generation_prompt=prompt)


FORMATS = {
    "chatml": (
        "<|im_start|>system\nBe kind<|im_end|>\n",
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello<|im_end|>\n"
        "<|im_start|>user\nBye<|im_end|>\n",
        "<|im_start|>assistant\n",
    ),
    "llama3": (
        "<s><|start_header_id|>system<|end_header_id|>\n\nBe kind<|eot_id|>",
        "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\nHello<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nBye<|eot_id|>",
        "<|start_header_id|>assistant<|end_header_id|>\n\n",
    ),
    "mistral": (
        "<s> [INST] Be kind\n\n",
        "Hi [/INST] Hello</s> [INST] Bye [/INST]",
        "",
    ),
    "alpaca": (
        "Be kind\n\n",
        "### Instruction:\nHi\n\n### Response:\nHello\n\n### Instruction:\nBye",
        "\n\n### Response:\n",
    ),
}


@pytest.mark.parity
@pytest.mark.parametrize("name", TEMPLATES)
def test_a_named_template_writes_its_format(name, tmp_path):
    wanted = "".join(FORMATS[name])
    assert rendered(name, [SYSTEM, *TALK], tmp_path, prompt=True) == wanted


@pytest.mark.parity
@pytest.mark.parametrize("name", TEMPLATES)
def test_a_talk_without_a_system_message_has_no_place_for_one(name, tmp_path):
    begin, talk, _ = FORMATS[name]
    before = {"llama3": "<s>", "mistral": "<s> [INST] "}.get(name, "")
    assert begin.startswith(before)
    assert rendered(name, TALK, tmp_path, prompt=False) == before + talk


@pytest.mark.parity
@pytest.mark.filterwarnings("ignore:numpy.core is deprecated:DeprecationWarning")
@pytest.mark.parametrize("name", ["chatml", "mistral"])  # its llama3 has line breaks too many
@pytest.mark.parametrize("messages", [TALK, [SYSTEM, *TALK], TALK[:1], TALK[:2]])
def test_mergekits_template_of_that_name_writes_the_same(name, messages, tmp_path):
    pytest.importorskip("mergekit")
    from importlib import resources

    from mergekit._data import chat_templates

    theirs = (resources.files(chat_templates) / f"{name}.jinja").read_text("utf-8")
    ours = rendered(name, messages, tmp_path / "ours", prompt=True)
    assert ours == rendered(theirs, messages, tmp_path / "theirs", prompt=True)
