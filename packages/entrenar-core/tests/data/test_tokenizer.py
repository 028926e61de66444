"""Training, saving, loading and the round trip of a tokenizer."""

import json
import subprocess
import sys

import numpy as np
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import models, pre_tokenizers, processors

from entrenar_common.errors import ConfigError, FormatError, NotFoundError
from entrenar_core.data.tokenizer import Tokenizer, train_bpe

TEXTS = ["def f(x):\n    return x + 1\n", "the cat sat on the mat", "naïve café 漢字 🙂"] * 5
SAVED = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")


@pytest.fixture(scope="module")
def trained():
    return train_bpe(TEXTS, 300)


@pytest.fixture
def saved(trained, tmp_path):
    trained.save(tmp_path)
    return tmp_path


def edit(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


# --- training ----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [257, 258, 300])
def test_the_vocabulary_has_exactly_the_size_asked_for(size):
    tokenizer = train_bpe(TEXTS, size)
    assert tokenizer.vocab_size == size
    assert tokenizer.eos_id == 0


def test_merges_are_the_most_frequent_pairs():
    tokenizer = train_bpe(["abab", "abab", "ab", "bc"], 259)
    first = [tokenizer.decode([number]) for number in (257, 258)]
    assert first == ["ab", "abab"]  # a+b 5 times, then ab+ab twice, b+c once


@pytest.mark.tier2
@settings(deadline=None)
@given(text=st.text())
def test_every_text_round_trips(trained, text):
    assert trained.decode(trained.encode(text)) == text


def test_ids_are_int32_and_below_the_vocabulary_size(trained):
    ids = trained.encode("the café 漢字")
    assert ids.dtype == np.int32
    assert ids.max() < trained.vocab_size


def test_many_texts_are_encoded_as_each_one_is(trained):
    together = trained.encode_many(TEXTS)
    assert [ids.tolist() for ids in together] == [trained.encode(t).tolist() for t in TEXTS]


@pytest.mark.tier2
def test_training_in_other_processes_and_threads_gives_equal_bytes(tmp_path):
    program = (
        "import sys; from pathlib import Path; from entrenar_core.data.tokenizer import train_bpe\n"
        "texts = (p.read_text('utf-8') for p in sorted(Path(json_folder()).glob('*.py')))\n"
        "train_bpe(texts, 1000).save(sys.argv[1])"
    ).replace("json_folder()", "__import__('json').__path__[0]")
    for name, threads in (("one", "1"), ("two", "2"), ("three", "4")):
        subprocess.run(
            [sys.executable, "-c", program, str(tmp_path / name)],
            check=True, timeout=120, env={"RAYON_NUM_THREADS": threads},
        )  # fmt: skip
    for file in SAVED:
        contents = {(tmp_path / run / file).read_bytes() for run in ("one", "two", "three")}
        assert len(contents) == 1


@pytest.mark.parametrize("size", [0, 256])
def test_a_vocabulary_without_room_for_all_bytes_is_a_config_error(size):
    with pytest.raises(ConfigError, match="at least 257"):
        train_bpe(TEXTS, size)


@pytest.mark.parametrize("token", ["", "a", "END"])
def test_an_eos_token_that_text_could_produce_is_a_config_error(token):
    with pytest.raises(ConfigError, match="ordinary text"):
        train_bpe(TEXTS, 300, eos_token=token)


@pytest.mark.parametrize("texts", [[], ["", ""]])
def test_no_text_is_a_config_error(texts):
    with pytest.raises(ConfigError, match="no text"):
        train_bpe(texts, 300)


def test_an_error_of_the_text_source_comes_through():
    def source():
        yield "a"
        raise FormatError("line 2 is bad")

    with pytest.raises(FormatError, match="line 2"):
        train_bpe(source(), 300)


def test_half_a_surrogate_pair_is_a_config_error(trained):
    for call in (trained.encode, lambda text: train_bpe([text], 300)):
        with pytest.raises(ConfigError, match="surrogate"):
            call("a\ud800")


# --- decoding ----------------------------------------------------------------------------------


def test_special_tokens_are_decoded_too(trained):
    assert trained.decode([trained.eos_id]) == "<|endoftext|>"


@pytest.mark.parametrize("number", [-1, 300, 10**12])
def test_an_id_outside_the_vocabulary_is_a_config_error(trained, number):
    with pytest.raises(ConfigError, match="outside the vocabulary"):
        trained.decode([number])


# --- saving and loading ------------------------------------------------------------------------


def test_a_loaded_tokenizer_is_the_one_saved(trained, saved, tmp_path):
    loaded = Tokenizer.load(saved)
    assert loaded.same_as(trained)
    assert (loaded.eos_id, loaded.bos_id, loaded.pad_id) == (0, 0, None)
    loaded.save(tmp_path / "again")
    for name in SAVED:
        assert (tmp_path / "again" / name).read_bytes() == (saved / name).read_bytes()


def test_a_folder_without_a_tokenizer_is_not_found(tmp_path):
    with pytest.raises(NotFoundError, match=r"tokenizer\.json"):
        Tokenizer.load(tmp_path)


def test_the_configuration_and_chat_template_of_a_model_are_kept(saved, tmp_path):
    edit(saved / "tokenizer_config.json", model_max_length=77, tokenizer_class="GPT2Tokenizer")
    (saved / "chat_template.jinja").write_text("{{ messages }}")
    Tokenizer.load(saved).save(tmp_path / "copy")
    config = json.loads((tmp_path / "copy/tokenizer_config.json").read_text())
    assert (config["model_max_length"], config["tokenizer_class"]) == (77, "GPT2Tokenizer")
    assert (tmp_path / "copy/chat_template.jinja").read_text() == "{{ messages }}"


def test_truncation_and_padding_of_the_file_do_not_cut_documents(trained, saved):
    edit(
        saved / "tokenizer.json",
        truncation={"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0},
        padding={
            "strategy": {"Fixed": 64}, "direction": "Right", "pad_to_multiple_of": None,
            "pad_id": 0, "pad_type_id": 0, "pad_token": "<|endoftext|>",
        },
    )  # fmt: skip
    text = "the cat sat on the mat"
    assert Tokenizer.load(saved).encode(text).tolist() == trained.encode(text).tolist()


def test_eos_is_read_from_each_file_that_may_name_it(saved):
    (saved / "tokenizer_config.json").write_text("{}")
    assert Tokenizer.load(saved).eos_id == 0  # special_tokens_map.json
    (saved / "special_tokens_map.json").write_text('{"eos_token": {"content": "the"}}')
    the = Tokenizer.load(saved).eos_id
    assert Tokenizer.load(saved).decode([the]) == "the"
    (saved / "special_tokens_map.json").unlink()
    assert Tokenizer.load(saved).eos_id is None
    (saved / "config.json").write_text('{"eos_token_id": [5, 6], "pad_token_id": 7}')
    loaded = Tokenizer.load(saved)
    assert (loaded.eos_id, loaded.pad_id) == (5, 7)


def test_a_special_token_outside_the_vocabulary_is_a_format_error(saved):
    edit(saved / "tokenizer_config.json", pad_token="<pad>")
    with pytest.raises(FormatError, match="pad token '<pad>'"):
        Tokenizer.load(saved)


def add_token(folder, number):
    content = json.loads((folder / "tokenizer.json").read_text())
    token = content["added_tokens"][0] | {"id": number, "content": "<x>"}
    edit(folder / "tokenizer.json", added_tokens=[*content["added_tokens"], token])
    return Tokenizer.load(folder)


def test_vocab_size_counts_added_tokens(saved):
    loaded = add_token(saved, 300)
    assert loaded.vocab_size == 301
    assert loaded.encode("<x>").tolist() == [300]


def test_an_added_token_that_the_library_would_give_another_id_is_a_format_error(saved):
    with pytest.raises(FormatError, match="'<x>' has the id 310"):
        add_token(saved, 310)


def test_the_files_of_transformers_hold_integers_beyond_64_bits(saved):
    edit(saved / "tokenizer_config.json", model_max_length=int(1e30))
    assert Tokenizer.load(saved).eos_id == 0


def test_parsed_content_and_config_give_the_tokenizer_again(trained):
    content, config = trained.to_json()
    again = Tokenizer.from_json(content, config)
    assert again.same_as(trained)
    assert (again.bos_id, again.eos_id, again.pad_id) == (0, 0, None)


def test_parsed_content_is_checked_as_a_file_is(trained):
    content, config = trained.to_json()
    content["model"]["merges"].append(["nowhere", "to be found"])
    with pytest.raises(FormatError, match=r"^here: merge .* is not in the vocabulary"):
        Tokenizer.from_json(content, config, where="here")


def test_the_config_has_the_chat_template_of_its_own_file(saved):
    (saved / "chat_template.jinja").write_text("{{ messages }}")
    assert Tokenizer.load(saved).to_json()[1]["chat_template"] == "{{ messages }}"


# --- identity ----------------------------------------------------------------------------------


def test_the_fingerprint_does_not_depend_on_the_layout_of_the_file(trained, saved):
    path = saved / "tokenizer.json"
    content = json.loads(path.read_text())
    content["model"]["merges"] = [" ".join(pair) for pair in content["model"]["merges"]]
    content["post_processor"] = content["decoder"] = None
    path.write_text(json.dumps(content, indent=8, sort_keys=True))
    assert Tokenizer.load(saved).same_as(trained)


def test_tokenizers_that_give_other_ids_differ(trained, saved):
    assert not trained.same_as(train_bpe(TEXTS, 299))
    edit(saved / "tokenizer.json", normalizer={"type": "Lowercase"})
    assert not trained.same_as(Tokenizer.load(saved))


def test_a_template_that_adds_tokens_is_applied_and_is_part_of_the_identity(trained, saved):
    content = json.loads((saved / "tokenizer.json").read_text())
    inner = tokenizers.Tokenizer.from_str(json.dumps(content))
    inner.post_processor = processors.TemplateProcessing(
        single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", 0)]
    )
    inner.save(str(saved / "tokenizer.json"))
    loaded = Tokenizer.load(saved)
    assert loaded.encode("the").tolist() == [0, *trained.encode("the").tolist()]
    assert not loaded.same_as(trained)


@pytest.mark.parametrize("kind", ["WordLevel", "WordPiece", "Unigram"])
def test_the_other_models_load(tmp_path, kind):
    vocab = {"[UNK]": 0, "the": 1, "cat": 2}
    inner = tokenizers.Tokenizer(
        {
            "WordLevel": lambda: models.WordLevel(vocab, unk_token="[UNK]"),
            "WordPiece": lambda: models.WordPiece(vocab, unk_token="[UNK]"),
            "Unigram": lambda: models.Unigram([("[UNK]", 0.0), ("the", -1.0), ("cat", -2.0)], 0),
        }[kind]()
    )
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    inner.save(str(tmp_path / "tokenizer.json"))
    assert Tokenizer.load(tmp_path).encode("the cat x").tolist() == [1, 2, 0]
