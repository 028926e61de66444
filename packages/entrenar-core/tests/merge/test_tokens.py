"""The tokenizer of the result."""

import pytest
from tokenizers import AddedToken, normalizers

from entrenar_common.errors import ConfigError, NotFoundError, ShapeError, UnsupportedError
from entrenar_core.merge.token_choice import TokenChoice, TokenizerChoice
from entrenar_core.merge.tokens import ModelTokens, merged_tokens
from word_tokenizers import of_pieces, of_words

BASE, UNION = TokenizerChoice("base"), TokenizerChoice("union")
SPECIAL = AddedToken("<s>", special=True)
PLAIN = AddedToken("<s>", special=False, lstrip=True)


def model(tokenizer, rows=None):
    return ModelTokens(tokenizer, tokenizer.vocab_size if rows is None else rows)


def ids(merged):
    return dict(merged.vocabulary)


def test_a_union_has_the_bases_tokens_then_other_ordinary_ones_then_added_ones():
    models = {
        "first": model(of_words("?", "b", "a", added=("<x>",))),
        "base": model(of_words("?", "a", added=("<y>",))),
        "third": model(of_words("?", "c", "b")),
    }
    merged = merged_tokens(models, UNION, base="base")
    assert ids(merged) == {"?": 0, "a": 1, "<y>": 2, "b": 3, "c": 4, "<x>": 5}
    assert merged.tokenizer.encode("a b c<x><y> d").tolist() == [1, 3, 4, 5, 2, 0]


def test_the_first_model_is_the_base_where_none_is_given():
    models = {"one": model(of_words("?", "a")), "two": model(of_words("?", "b"))}
    assert ids(merged_tokens(models, BASE)) == {"?": 0, "a": 1}


def test_the_result_keeps_the_vocabularies_of_the_models():
    models = {"one": model(of_words("?", "a")), "two": model(of_words("b", "?"), 9)}
    merged = merged_tokens(models, UNION)
    assert {key: dict(v) for key, v in merged.models.items()} == {
        "one": {"?": 0, "a": 1},
        "two": {"b": 0, "?": 1},
    }
    assert merged.rows == {"one": 2, "two": 9}


@pytest.mark.parametrize(("first", "second"), [(SPECIAL, PLAIN), (PLAIN, SPECIAL)])
def test_the_first_models_settings_of_an_added_token_win(first, second):
    models = {
        "base": model(of_words("?")),
        "one": model(of_words("?", added=(first,))),
        "two": model(of_words("?", added=(second,))),
    }
    content, _ = merged_tokens(models, UNION).tokenizer.to_json()
    (token,) = content["added_tokens"]
    assert (token["special"], token["lstrip"]) == (first.special, first.lstrip)


def test_an_ordinary_token_that_another_model_has_added_becomes_an_added_one_in_its_place():
    models = {"base": model(of_words("?", "<s>")), "one": model(of_words("?", added=(SPECIAL,)))}
    merged = merged_tokens(models, UNION)
    assert ids(merged) == {"?": 0, "<s>": 1}
    assert merged.tokenizer.encode("?<s>?").tolist() == [0, 1, 0]


def test_tokens_without_a_row_are_left_out_of_a_union():
    models = {"base": model(of_words("?")), "one": model(of_words("?", "a", "b", added=("c",)), 2)}
    assert ids(merged_tokens(models, UNION)) == {"?": 0, "a": 1}


@pytest.mark.parametrize("source", ["base", "union"])
def test_tokens_of_the_base_without_a_row_are_taken_out_with_their_merges(source):
    pieces = ["a", "b", "c", "ab", "bc", "abc", "aa"]
    merges = [("a", "b"), ("b", "c"), ("ab", "c"), ("a", "a")]
    models = {"base": model(of_pieces(pieces, merges, added=("<x>",)), 4)}
    merged = merged_tokens(models, TokenizerChoice(source))
    assert ids(merged) == {"a": 0, "b": 1, "c": 2, "ab": 3}
    assert merged.tokenizer.to_json()[0]["model"]["merges"] == [["a", "b"]]
    assert merged.tokenizer.encode("abc aa").tolist() == [3, 2, 0, 0]


def test_a_special_role_whose_token_is_taken_out_is_no_more():
    settings = {"eos_token": "<s>", "extra_special_tokens": ["<s>", "a"]}
    tokenizer = of_pieces(["a", "b"], [], added=(SPECIAL,), **settings)
    merged = merged_tokens({"base": model(tokenizer, 2)}, BASE)
    assert merged.tokenizer.eos_id is None
    assert merged.tokenizer.to_json()[1] == {"extra_special_tokens": ["a"]}
    assert "tokens for eos have no row" in merged.notes[0]


def test_tokens_are_taken_out_of_bpe_only():
    with pytest.raises(UnsupportedError, match="WordLevel") as caught:
        merged_tokens({"base": model(of_words("?", "a"), 1)}, BASE)
    assert caught.value.hint


def test_a_tokenizer_that_makes_nothing_of_a_token_cannot_have_it():
    base = of_words("?", "a", normalizer=normalizers.Strip())
    models = {"base": model(base), "one": model(of_words("?", "\u3000"))}
    with pytest.raises(UnsupportedError, match="base: its tokenizer cannot have") as caught:
        merged_tokens(models, UNION)
    assert caught.value.hint


def test_the_tokenizer_of_a_model_is_the_one_that_was_loaded():
    tokenizers = {"base": of_words("?", "a"), "one": of_words("?", "b", added=("<x>",))}
    models = {key: model(tokenizer) for key, tokenizer in tokenizers.items()}
    assert merged_tokens(models, BASE).tokenizer is tokenizers["base"]
    assert merged_tokens(models, TokenizerChoice("one")).tokenizer is tokenizers["one"]


def test_new_tokens_are_added_after_all_others_and_known_ones_are_not():
    choice = TokenizerChoice("base", {t: TokenChoice() for t in ("<new>", "a", "<x>", "two words")})
    merged = merged_tokens({"base": model(of_words("?", "a", added=("<x>",)))}, choice)
    assert ids(merged) == {"?": 0, "a": 1, "<x>": 2, "<new>": 3, "two words": 4}
    assert merged.tokenizer.encode("a<new>two words").tolist() == [1, 3, 4]


def test_tokens_that_the_settings_name_special_are_found_inside_text():
    tokenizer = of_words("?", "<s>", "a", mask_token="<s>")
    merged = merged_tokens({"base": model(tokenizer)}, BASE)
    assert merged.tokenizer.encode("a<s>a").tolist() == [2, 1, 2]


def test_a_model_without_a_tokenizer_has_the_bases_tokens_if_it_has_as_many_rows():
    models = {"base": model(of_words("?", "a")), "one": ModelTokens(None, 2)}
    merged = merged_tokens(models, UNION)
    assert dict(merged.models["one"]) == {"?": 0, "a": 1}
    assert "one: there is no tokenizer" in merged.notes[0]


def test_a_model_without_a_tokenizer_and_with_other_rows_is_an_error():
    models = {"base": model(of_words("?", "a")), "one": ModelTokens(None, 3)}
    with pytest.raises(ShapeError, match=r"one: .* 3 rows .* base has 2"):
        merged_tokens(models, UNION)


def test_a_base_without_a_tokenizer_is_an_error():
    models = {"base": ModelTokens(None, 2), "one": model(of_words("?", "a"))}
    with pytest.raises(NotFoundError, match="base: the base has no tokenizer"):
        merged_tokens(models, UNION)


@pytest.mark.parametrize(("source", "base"), [("other", "one"), ("base", "other")])
def test_a_model_that_is_not_merged_gives_no_tokenizer(source, base):
    with pytest.raises(ConfigError, match="tokenizer of other is wanted") as caught:
        merged_tokens({"one": model(of_words("?"))}, TokenizerChoice(source), base=base)
    assert caught.value.hint == "there are one"


def test_the_result_saves_and_loads_as_itself(tmp_path):
    models = {"base": model(of_words("?", "a")), "one": model(of_words("?", "b", added=("<x>",)))}
    merged = merged_tokens(models, UNION)
    merged.tokenizer.save(tmp_path)
    loaded = type(merged.tokenizer).load(tmp_path)
    assert loaded.same_as(merged.tokenizer)
    assert loaded.vocab_size == len(merged.vocabulary)
