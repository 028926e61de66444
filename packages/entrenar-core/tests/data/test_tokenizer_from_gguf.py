"""A tokenizer from GGUF metadata alone gives the ids of the one that the metadata was made from."""

import functools
import unicodedata

import numpy as np
import pytest

from entrenar_common.errors import FormatError, UnsupportedError
from entrenar_core.data.tokenizer import Tokenizer
from entrenar_core.data.tokenizer_from_gguf import tokenizer_json_from_gguf
from entrenar_core.data.tokenizer_gguf import as_in_gguf, gguf_tokenizer
from entrenar_core.io.gguf_file import GGUFFile
from entrenar_core.io.gguf_values import ValueType, array, text, texts, u32
from entrenar_core.io.gguf_write import write_gguf
from tokenizer_cases import CASES, SMALL
from varied_strings import STRINGS

make = functools.cache(lambda name: CASES[name](SMALL))


@functools.cache
def keys_of(name):
    return gguf_tokenizer(*make(name))


def rebuilt(keys):
    """The JSON of keys with their types, as `tokenizer_json_from_gguf` takes them from a file."""
    return tokenizer_json_from_gguf({key: value.content for key, value in keys.items()})


def back(keys):
    return Tokenizer.from_json(*rebuilt(keys))


@pytest.mark.tier2
@pytest.mark.parametrize("name", CASES)
def test_the_ids_are_the_same_after_the_way_there_and_back(name):
    ours, again = Tokenizer.from_json(*make(name)), back(keys_of(name))
    strings = STRINGS
    if name == "qwen 2":  # a GGUF cannot say that texts are normalized
        strings = [text for text in STRINGS if unicodedata.is_normalized("NFC", text)]
    for one, other, content in zip(
        ours.encode_many(strings), again.encode_many(strings), strings, strict=True
    ):
        assert one.tolist() == other.tolist(), content


@pytest.mark.tier2
@pytest.mark.parametrize("name", CASES)
def test_what_is_written_again_is_the_same(name):
    content, config = rebuilt(keys_of(name))
    assert gguf_tokenizer(content, config, pre=same_pre(name)) == keys_of(name)


def same_pre(name):
    """Several kinds cut alike, and only the first of them is found in the structure."""
    return (
        None
        if name.startswith(("llama 2", "bert"))
        else keys_of(name)["tokenizer.ggml.pre"].content
    )


@pytest.mark.parametrize("name", ["gpt-2", "llama 2"])
def test_texts_are_decoded_alike(name):
    ours, again = Tokenizer.from_json(*make(name)), back(keys_of(name))
    for content in STRINGS:
        ids = ours.encode(content)
        assert again.decode(ids) == ours.decode(ids)


def test_a_file_is_all_that_is_needed(tmp_path):
    path = tmp_path / "model.gguf"
    write_gguf(path, {"general.architecture": text("llama"), **keys_of("llama 2")}, [], no_tensor)
    with GGUFFile(path) as file:
        again = Tokenizer.from_json(*tokenizer_json_from_gguf(file.metadata))
    assert again.same_as(back(keys_of("llama 2")))


def no_tensor(name):
    raise AssertionError(name)


def test_the_special_ids_come_back():
    content, config = make("llama 2")
    again = back(keys_of("llama 2"))
    ids = content["model"]["vocab"]
    assert (again.bos_id, again.eos_id) == (ids[config["bos_token"]], ids[config["eos_token"]])


def test_unused_rows_are_left_out():
    content, config = make("gpt-2")
    size = len(content["model"]["vocab"])
    assert back(gguf_tokenizer(content, config, rows=size + 9)).vocab_size == size


def test_empty_tokens_have_the_names_that_llama_cpp_gives_them():
    found = list(keys_of("gpt-2")["tokenizer.ggml.tokens"].content)
    content, _ = rebuilt(keys_of("gpt-2") | {"tokenizer.ggml.tokens": texts([*found[:-2], "", ""])})
    size = len(found)
    assert content["model"]["vocab"][f"[EMPTY_{size - 2}]"] == size - 2
    assert content["model"]["vocab"][f"[EMPTY_{size - 1}]"] == size - 1


def test_the_chat_template_comes_back():
    content, config = make("gpt-2")
    keys = gguf_tokenizer(content, config | {"chat_template": "{{ x }}"})
    assert rebuilt(keys)[1]["chat_template"] == "{{ x }}"


def test_missing_keys_have_llama_cpps_defaults():
    keys = dict(keys_of("llama 2"))
    for name in ("bos_token_id", "eos_token_id", "unknown_token_id", "add_bos_token"):
        del keys[f"tokenizer.ggml.{name}"]
    del keys["tokenizer.ggml.add_space_prefix"]
    again = back(keys)
    assert (again.bos_id, again.eos_id) == (1, 2)
    ours = Tokenizer.from_json(*make("llama 2"))
    assert again.encode(" a b").tolist() == ours.encode(" a b").tolist()


def test_a_tokenizer_without_a_template_puts_nothing_around():
    content, _ = rebuilt(keys_of("gpt-2"))
    assert content["post_processor"] is None


# --- damaged or unknown ------------------------------------------------------------------------


def without(name, key):
    return {k: v for k, v in keys_of(name).items() if k != f"tokenizer.ggml.{key}"}


def changed(name, key, value):
    return keys_of(name) | {f"tokenizer.ggml.{key}": value}


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (lambda: without("gpt-2", "model"), "model is missing"),
        (lambda: without("gpt-2", "tokens"), "tokens is missing"),
        (lambda: without("gpt-2", "merges"), "merges is missing"),
        (lambda: without("gpt-2", "pre"), "pre is missing"),
        (lambda: without("llama 2", "scores"), "scores is missing"),
        (lambda: changed("gpt-2", "tokens", text("a")), "tokens has the wrong type, str"),
        (lambda: changed("gpt-2", "bos_token_id", text("a")), "bos_token_id has the wrong type"),
        (lambda: changed("gpt-2", "bos_token_id", u32(10**6)), "bos_token_id is 1000000"),
        (lambda: changed("gpt-2", "merges", texts(["ab"])), "merge 'ab' is not two tokens"),
        (lambda: changed("gpt-2", "merges", texts(["a \U0001f642"])), "not in the vocabulary"),
        (
            lambda: changed("gpt-2", "token_type", array(ValueType.I32, [1])),
            "token_type has 1 values of int32",
        ),
        (
            lambda: changed("llama 2", "scores", array(ValueType.I32, [1])),
            "scores has 1 values of int32",
        ),
        (
            lambda: (
                changed("gpt-2", "tokens", texts(["a", "a", "b"]))
                | {"tokenizer.ggml.token_type": array(ValueType.I32, [1, 1, 1])}
            ),
            "1 tokens have the text of another one",
        ),
    ],
)
def test_keys_that_make_no_sense_are_an_error(keys, message):
    with pytest.raises(FormatError, match=message):
        back(keys())


def test_a_model_that_cannot_be_read_is_an_error():
    with pytest.raises(UnsupportedError, match="model 't5'") as caught:
        back(changed("gpt-2", "model", text("t5")))
    assert "bert, gpt2, llama" in caught.value.hint


def test_a_pre_tokenizer_that_is_not_described_here_is_an_error():
    with pytest.raises(UnsupportedError, match="'falcon'") as caught:
        back(changed("gpt-2", "pre", text("falcon")))
    assert "llama-bpe" in caught.value.hint


def test_other_names_of_a_kind_cut_alike():
    ours = back(keys_of("smollm"))
    assert back(changed("smollm", "pre", text("starcoder"))).same_as(ours)


def test_types_may_be_missing():
    again = back(without("gpt-2", "token_type"))
    ours = Tokenizer.from_json(*make("gpt-2"))
    assert np.array_equal(again.encode("a plain text"), ours.encode("a plain text"))


@pytest.mark.parametrize("name", ["gpt-2", "llama 2", "qwen 2"])
def test_a_tokenizer_as_in_gguf_is_that_of_the_file(name):
    ours, again = Tokenizer.from_json(*make(name)), back(keys_of(name))
    assert as_in_gguf(ours).same_as(again)
