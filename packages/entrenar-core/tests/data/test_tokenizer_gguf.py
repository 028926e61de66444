"""Tokenizers as GGUF metadata: which kind, which keys, and what is refused."""

import copy
import functools
import json

import numpy as np
import pytest

from entrenar_common.errors import ConfigError, FormatError, UnsupportedError
from entrenar_core.data.tokenizer_gguf import gguf_tokenizer
from entrenar_core.io.gguf_values import ValueType
from tokenizer_cases import BYTES, CASES, SMALL, SPACE

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)

make = functools.cache(lambda name: CASES[name](SMALL))


def case(name):
    """A tokenizer of this kind, for the test to change."""
    return copy.deepcopy(make(name))


def ggml(keys, name):
    return keys[f"tokenizer.ggml.{name}"].content


def added(content, text, **options):
    """The content with one more added token."""
    largest = max(
        [*content["model"]["vocab"].values(), *(t["id"] for t in content["added_tokens"])]
    )
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized", "special"), False)
    content["added_tokens"].append({"id": largest + 1, "content": text, **flags, **options})
    return content


# --- the kind ----------------------------------------------------------------------------------


@pytest.mark.tier2
@pytest.mark.parametrize(
    ("name", "model", "pre"),
    [
        ("train_bpe", "gpt2", "gpt-2"),
        ("gpt-2", "gpt2", "gpt-2"),
        ("gpt-2 in a Split", "gpt2", "gpt-2"),
        ("llama 3", "gpt2", "llama-bpe"),
        ("gpt-4", "gpt2", "dbrx"),
        ("cl100k", "gpt2", "dbrx"),
        ("qwen 2", "gpt2", "qwen2"),
        ("qwen 3.5", "gpt2", "qwen35"),
        ("smollm", "gpt2", "smollm"),
        ("tekken", "gpt2", "tekken"),
        ("gpt-4o", "gpt2", "gpt-4o"),
        ("deepseek 3", "gpt2", "deepseek-v3"),
        ("bloom", "gpt2", "bloom"),
        ("roberta", "gpt2", "jina-v2-code"),
        ("llama 2", "llama", "default"),
        ("bert uncased", "bert", "default"),
    ],
)
def test_the_kind_follows_from_the_structure(name, model, pre):
    keys = gguf_tokenizer(*case(name))
    assert (ggml(keys, "model"), ggml(keys, "pre")) == (model, pre)


def test_a_way_to_cut_text_that_llama_cpp_lacks_is_refused_with_the_choices():
    content, config = case("gpt-2")
    content["pre_tokenizer"] = {
        "type": "Sequence",
        "pretokenizers": [{"type": "Digits", "individual_digits": False}, content["pre_tokenizer"]],
    }
    with pytest.raises(UnsupportedError, match="no name for the way") as caught:
        gguf_tokenizer(content, config)
    assert "llama-bpe" in caught.value.hint
    assert "pre=" in caught.value.hint


def test_a_kind_can_be_forced_by_its_name():
    content, config = case("gpt-2")
    content["pre_tokenizer"] = {
        "type": "Sequence",
        "pretokenizers": [{"type": "Digits", "individual_digits": False}, content["pre_tokenizer"]],
    }
    assert ggml(gguf_tokenizer(content, config, pre="falcon"), "pre") == "falcon"


def test_a_name_that_llama_cpp_does_not_know_is_an_error():
    with pytest.raises(ConfigError, match="'llama-4', which llama") as caught:
        gguf_tokenizer(*case("gpt-2"), pre="llama-4")
    assert "llama-bpe" in caught.value.hint


def test_a_space_before_the_text_is_refused_in_byte_level():
    content, config = case("gpt-2")
    content["pre_tokenizer"]["add_prefix_space"] = True
    with pytest.raises(UnsupportedError, match="no name for the way"):
        gguf_tokenizer(content, config)


def test_whole_words_do_not_matter_where_merges_reach_every_token():
    content, config = case("gpt-2")
    content["model"]["ignore_merges"] = True
    assert ggml(gguf_tokenizer(content, config), "pre") == "gpt-2"


def test_whole_words_matter_where_a_token_has_no_merges():
    content, config = case("gpt-2")
    content["model"]["ignore_merges"] = True
    content["model"]["vocab"]["qqqqq"] = len(content["model"]["vocab"])
    with pytest.raises(UnsupportedError, match="ignore_merges is true"):
        gguf_tokenizer(content, config)


def test_another_model_is_refused():
    content, config = case("gpt-2")
    content["model"] = {"type": "Unigram", "unk_id": 0, "vocab": [["<unk>", 0.0], ["a", -1.0]]}
    content["added_tokens"] = []
    with pytest.raises(UnsupportedError, match="type Unigram"):
        gguf_tokenizer(content, config)


# --- byte-level BPE ----------------------------------------------------------------------------


def test_tokens_and_merges_are_those_of_the_file():
    content, config = case("gpt-2")
    keys = gguf_tokenizer(content, config)
    ids = content["model"]["vocab"]
    assert {token: n for n, token in enumerate(ggml(keys, "tokens"))} == ids
    assert [m.split(" ") for m in ggml(keys, "merges")] == content["model"]["merges"]


def test_types_say_control_for_special_and_user_defined_for_other_added_tokens():
    content, config = case("gpt-2")
    content = added(added(content, "[tool]"), "<|looks_special|>")
    keys = gguf_tokenizer(content, config)
    types = dict(zip(ggml(keys, "tokens"), ggml(keys, "token_type").tolist(), strict=True))
    assert types["<|endoftext|>"] == types["<|looks_special|>"] == CONTROL
    assert types["[tool]"] == USER_DEFINED
    assert types["a"] == NORMAL


def test_rows_without_a_token_are_unused():
    content, config = case("gpt-2")
    size = len(content["model"]["vocab"])
    keys = gguf_tokenizer(content, config, rows=size + 2)
    assert ggml(keys, "tokens")[size:] == (f"[PAD{size}]", f"[PAD{size + 1}]")
    assert ggml(keys, "token_type")[size:].tolist() == [UNUSED, UNUSED]


def test_fewer_rows_than_tokens_are_refused():
    with pytest.raises(UnsupportedError, match="the embedding has 5 rows"):
        gguf_tokenizer(*case("gpt-2"), rows=5)


@pytest.mark.parametrize(
    ("name", "adds"),
    [("gpt-2", (False, False)), ("llama 3", (True, False)), ("begins and ends", (True, True))],
)
def test_the_template_says_what_is_put_around_a_text(name, adds):
    content, config = case(name)
    keys = gguf_tokenizer(content, config)
    ids = content["model"]["vocab"]
    assert (ggml(keys, "add_bos_token"), ggml(keys, "add_eos_token")) == adds
    assert ggml(keys, "bos_token_id") == ids[config["bos_token"]]
    assert ggml(keys, "eos_token_id") == ids[config["eos_token"]]


def test_an_end_that_is_not_the_eos_token_is_refused():
    content, config = case("begins and ends")
    with pytest.raises(UnsupportedError, match=r"ends a text with '<\|endoftext\|>'"):
        gguf_tokenizer(content, config | {"eos_token": "</s>"})


def test_two_tokens_before_a_text_are_refused():
    content, config = case("llama 3")
    template = content["post_processor"]
    template["single"] = [template["single"][0], *template["single"]]
    with pytest.raises(UnsupportedError, match="puts 2 tokens before"):
        gguf_tokenizer(content, config)


def test_numbers_are_of_the_types_that_llama_cpp_checks():
    keys = gguf_tokenizer(*case("llama 2"))
    assert keys["tokenizer.ggml.bos_token_id"].type is ValueType.U32
    assert keys["tokenizer.ggml.token_type"].type is ValueType.I32
    assert keys["tokenizer.ggml.scores"].type is ValueType.F32
    assert keys["tokenizer.ggml.add_bos_token"].type is ValueType.BOOL


def test_no_eos_token_is_refused():
    content, _ = case("gpt-2")
    with pytest.raises(UnsupportedError, match="no eos token"):
        gguf_tokenizer(content, {"bos_token": "<s>"})


def test_a_role_whose_token_does_not_exist_is_an_error():
    content, config = case("gpt-2")
    with pytest.raises(FormatError, match="the pad token '<nowhere>'"):
        gguf_tokenizer(content, config | {"pad_token": {"content": "<nowhere>"}})


def test_a_missing_byte_is_refused():
    content, config = case("gpt-2")
    vocab = content["model"]["vocab"]
    vocab["\u0100gone"] = vocab.pop("\u0100")
    content["model"]["merges"] = [m for m in content["model"]["merges"] if "\u0100" not in m]
    with pytest.raises(UnsupportedError, match="1 of 256 bytes"):
        gguf_tokenizer(content, config)


def test_a_normalizer_that_changes_letters_is_refused():
    content, config = case("gpt-2")
    content["normalizer"] = {"type": "Lowercase"}
    with pytest.raises(UnsupportedError, match="normalizer Lowercase"):
        gguf_tokenizer(content, config)


@pytest.mark.parametrize("option", ["single_word", "lstrip", "rstrip"])
def test_an_added_token_that_takes_more_than_its_text_is_refused(option):
    content, config = case("gpt-2")
    with pytest.raises(UnsupportedError, match=f"'<tool>' has {option}"):
        gguf_tokenizer(added(content, "<tool>", **{option: True}), config)


def test_added_tokens_of_which_the_longer_one_begins_later_are_refused():
    content, config = case("gpt-2")
    content = added(added(content, "<ab"), "b>cd")
    with pytest.raises(UnsupportedError, match="overlap: '<ab>cd'"):
        gguf_tokenizer(content, config)


def test_runs_of_spaces_as_added_tokens_are_no_overlap():
    content, config = case("gpt-2")
    for length in range(2, 9):
        content = added(content, " " * length)
    keys = gguf_tokenizer(content, config)
    assert " " * 8 in ggml(keys, "tokens")


def test_the_chat_template_is_kept():
    content, config = case("gpt-2")
    template = "{{ messages }}"
    keys = gguf_tokenizer(content, config | {"chat_template": template})
    assert keys["tokenizer.chat_template"].content == template


def test_named_chat_templates_are_kept():
    content, config = case("gpt-2")
    named = [{"name": "default", "template": "d"}, {"name": "tool_use", "template": "t"}]
    keys = gguf_tokenizer(content, config | {"chat_template": named})
    assert keys["tokenizer.chat_template"].content == "d"
    assert keys["tokenizer.chat_template.tool_use"].content == "t"
    assert keys["tokenizer.chat_templates"].content == ("tool_use",)


@pytest.mark.parametrize(
    ("option", "value"), [("continuing_subword_prefix", "##"), ("end_of_word_suffix", "</w>")]
)
def test_pieces_with_marks_are_refused(option, value):
    content, config = case("gpt-2")
    content["model"][option] = value
    content["model"]["merges"] = []
    with pytest.raises(UnsupportedError, match=f"the model has {option} '{value}'"):
        gguf_tokenizer(content, config)


# --- pieces with byte fallback -----------------------------------------------------------------


def test_pieces_have_their_types():
    content, config = case("llama 2")
    keys = gguf_tokenizer(content, config)
    types = dict(zip(ggml(keys, "tokens"), ggml(keys, "token_type").tolist(), strict=True))
    assert types["<unk>"] == UNKNOWN
    assert types["<s>"] == types["</s>"] == CONTROL
    assert {types[byte] for byte in BYTES} == {BYTE}


def test_scores_fall_in_the_order_of_the_merges():
    content, config = case("llama 2")
    keys = gguf_tokenizer(content, config)
    scores = dict(zip(ggml(keys, "tokens"), ggml(keys, "scores").tolist(), strict=True))
    merged = list(dict.fromkeys(left + right for left, right in content["model"]["merges"]))
    assert [scores[token] for token in merged] == [-float(place) for place in range(len(merged))]


@pytest.mark.parametrize(("name", "adds"), [("llama 2", True), ("llama 2 without a prefix", False)])
def test_the_normalizer_says_whether_a_space_is_put_before_a_text(name, adds):
    assert ggml(gguf_tokenizer(*case(name)), "add_space_prefix") is adds


def test_a_split_at_spaces_that_are_gone_does_nothing():
    content, config = case("llama 2 without a prefix")
    content["pre_tokenizer"] = {
        "type": "Split",
        "pattern": {"String": " "},
        "behavior": "MergedWithPrevious",
        "invert": False,
    }
    assert ggml(gguf_tokenizer(content, config), "add_space_prefix") is False


def test_another_normalizer_is_refused():
    content, config = case("llama 2")
    content["normalizer"]["normalizers"].insert(0, {"type": "NFKC"})
    with pytest.raises(UnsupportedError, match="not those of Llama 2"):
        gguf_tokenizer(content, config)


@pytest.mark.parametrize("role", ["bos", "eos"])
def test_pieces_without_bos_or_eos_are_refused(role):
    content, config = case("llama 2")
    content["post_processor"] = None
    del config[f"{role}_token"]
    with pytest.raises(UnsupportedError, match=f"there is no {role} token"):
        gguf_tokenizer(content, config)


def metaspace(scheme, *, splits=False):
    content, config = case("llama 2")
    content["normalizer"] = None
    content["pre_tokenizer"] = {
        "type": "Metaspace",
        "replacement": SPACE,
        "prepend_scheme": scheme,
        "split": splits,
    }
    return content, config


def test_a_metaspace_that_prepends_nothing_is_written():
    assert ggml(gguf_tokenizer(*metaspace("never")), "add_space_prefix") is False


@pytest.mark.parametrize("scheme", ["first", "always"])
def test_a_metaspace_that_prepends_in_its_own_way_has_to_be_forced(scheme):
    with pytest.raises(UnsupportedError, match=f"prepend_scheme '{scheme}'") as caught:
        gguf_tokenizer(*metaspace(scheme))
    assert 'pre="default"' in caught.value.hint
    assert ggml(gguf_tokenizer(*metaspace(scheme), pre="default"), "add_space_prefix") is True


def test_a_missing_byte_token_is_refused():
    content, config = case("llama 2")
    vocab = content["model"]["vocab"]
    vocab["<0xG0>"] = vocab.pop("<0x41>")
    with pytest.raises(UnsupportedError, match="first '<0x41>'"):
        gguf_tokenizer(content, config)


def test_an_added_token_in_normalized_text_is_refused():
    content, config = case("llama 2")
    with pytest.raises(UnsupportedError, match="looked for in normalized text"):
        gguf_tokenizer(added(content, "<tool>", normalized=True), config)


def test_merges_that_llama_cpp_would_not_follow_are_refused():
    content, config = case("llama 2")
    merges = content["model"]["merges"]
    first = "".join(merges[0])
    content["model"]["merges"] = [pair for pair in merges if "".join(pair) != first]
    with pytest.raises(UnsupportedError, match=r"by its merges, and .* by llama"):
        gguf_tokenizer(content, config)


# --- WordPiece ---------------------------------------------------------------------------------


def test_beginnings_of_words_are_marked_and_not_their_continuations():
    content, config = case("bert uncased")
    tokens = ggml(gguf_tokenizer(content, config), "tokens")
    for token, number in content["model"]["vocab"].items():
        if token.startswith("##"):
            assert tokens[number] == token[2:]
        elif token.startswith("["):
            assert tokens[number] in (token, SPACE + token)
        else:
            assert tokens[number] == SPACE + token


def test_the_ids_that_llama_cpp_puts_around_are_those_of_the_template():
    content, config = case("bert uncased")
    keys = gguf_tokenizer(content, config)
    ids = content["model"]["vocab"]
    assert ggml(keys, "bos_token_id") == ggml(keys, "cls_token_id") == ids["[CLS]"]
    assert ggml(keys, "seperator_token_id") == ids["[SEP]"]
    assert ggml(keys, "unknown_token_id") == ids["[UNK]"]
    assert "tokenizer.ggml.eos_token_id" not in keys


@pytest.mark.parametrize(
    ("name", "lowercase", "strips"),
    [
        ("bert uncased", True, True),
        ("bert cased", False, False),
        ("bert uncased with accents", True, False),
    ],
)
def test_the_normalizer_is_written(name, lowercase, strips):
    keys = gguf_tokenizer(*case(name))
    assert ggml(keys, "normalizer.lowercase") is lowercase
    assert ggml(keys, "normalizer.strip_accents") is strips


@pytest.mark.parametrize("option", ["clean_text", "handle_chinese_chars"])
def test_what_llama_cpp_always_does_cannot_be_left_out(option):
    content, config = case("bert uncased")
    content["normalizer"][option] = False
    with pytest.raises(UnsupportedError, match=f"without {option}"):
        gguf_tokenizer(content, config)


def test_a_text_without_cls_and_sep_is_refused():
    content, config = case("bert uncased")
    content["post_processor"] = None
    with pytest.raises(UnsupportedError, match="does not put a token before and after"):
        gguf_tokenizer(content, config)


def test_pieces_that_would_look_like_beginnings_are_refused():
    content, config = case("bert uncased")
    content["model"]["vocab"]["##" + SPACE + "x"] = len(content["model"]["vocab"])
    with pytest.raises(UnsupportedError, match="continues a word with U"):
        gguf_tokenizer(content, config)


def test_a_file_of_the_library_may_leave_out_defaults():
    content, config = case("gpt-2")
    del content["pre_tokenizer"]["use_regex"]
    del content["model"]["ignore_merges"]
    same = gguf_tokenizer(json.loads(json.dumps(content)), config)
    assert np.array_equal(
        ggml(same, "token_type"), ggml(gguf_tokenizer(content, config), "token_type")
    )
    assert ggml(same, "pre") == "gpt-2"
