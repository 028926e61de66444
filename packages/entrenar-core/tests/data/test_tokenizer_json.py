"""Damaged and hostile tokenizer files end in an error of ours, never in a crash."""

import copy
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from entrenar_common.errors import (
    EntrenarError,
    FormatError,
    NotFoundError,
    RefusedError,
    UnsupportedError,
)
from entrenar_core.data.patterns import GPT2_PATTERN, KNOWN_PATTERNS, is_safe_pattern
from entrenar_core.data.tokenizer import Tokenizer, train_bpe
from entrenar_core.data.tokenizer_json import MAX_ADDED_TOKENS, check_tokenizer


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    train_bpe(["the cat and the dog"] * 3, 265).save(folder)
    return json.loads((folder / "tokenizer.json").read_text())


def check(content):
    check_tokenizer(content, "t.json")


def changed(content, path, value):
    """A copy with the value at a path such as "model.vocab.a" replaced."""
    result = copy.deepcopy(content)
    *parents, last = path.split(".")
    place = result
    for key in parents:
        place = place[key]
    place[last] = value
    return result


def splitter(pattern):
    return {
        "type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False
    }  # fmt: skip


def test_a_trained_tokenizer_is_accepted(good):
    check(good)


@pytest.mark.parametrize(
    ("path", "value", "problem"),
    [
        ("model", None, "no model"),
        ("model.vocab", [], "not an object"),
        ("model.vocab.new", -1, "id -1"),
        ("model.vocab.new", 2**24, "id 16777216"),
        ("model.vocab.new", 1.5, "id 1.5"),
        ("model.vocab.new", True, "id True"),
        ("model.vocab.new", 3, "the same id 3"),
        ("model.vocab.new", 2**24 - 1, "belong to no token"),
        ("model.merges", {}, "not a list"),
        ("model.merges", [["t", "nope"]], "merge 0: 'nope' is not in the vocabulary"),
        ("model.merges", ["t q"], "merge 0: 'tq' is not in the vocabulary"),
        ("model.merges", ["t"], "merge 0 is not a pair"),
        ("model.merges", [["t", 1]], "merge 0 is not a pair"),
        ("model.continuing_subword_prefix", "####", "does not start with the subword prefix"),
        ("added_tokens", {}, "not a list"),
        ("added_tokens", [{"id": 999}], "has no content"),
        ("added_tokens", [{"id": 999, "content": ""}], "has no content"),
        ("added_tokens", [{"id": None, "content": "<x>"}], "id None"),
        ("added_tokens", [{"id": 5, "content": "<x>"}], "contradicts"),
        ("added_tokens", [{"id": 999, "content": "!"}], "contradicts"),
        ("added_tokens", [{}] * (MAX_ADDED_TOKENS + 1), "at most"),
        ("pre_tokenizer", [], "not an object"),
        ("pre_tokenizer", {"type": "Sequence"}, "without a list"),
        ("pre_tokenizer", {"type": "FixedLength", "length": 0}, "at least 1"),
        ("pre_tokenizer", {"type": "Split"}, "without a pattern"),
        ("normalizer", {"type": "Replace", "pattern": {"String": 1}}, "neither text nor"),
        ("normalizer", {"type": "Precompiled", "precompiled_charsmap": "AAAA"}, "cut"),
        ("normalizer", {"type": "Precompiled", "precompiled_charsmap": "é"}, "base64"),
        ("post_processor", {"type": "TemplateProcessing"}, "without special_tokens"),
        (
            "post_processor",
            {
                "type": "TemplateProcessing", "pair": [], "special_tokens": {},
                "single": [{"SpecialToken": {"id": "X", "type_id": 0}}],
            },
            "'X' is not in its special_tokens",
        ),
    ],
)  # fmt: skip
def test_an_inconsistent_file_is_a_format_error(good, path, value, problem):
    with pytest.raises(FormatError) as caught:
        check(changed(good, path, value))
    assert problem in str(caught.value)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("model.type", "Evil"),
        ("model.dropout", 0.1),
        ("pre_tokenizer", {"type": "Evil"}),
        ("normalizer", {"type": "Sequence", "normalizers": [{"type": "Evil"}]}),
        ("decoder", {"type": None}),
    ],
)
def test_an_unknown_part_is_unsupported(good, path, value):
    with pytest.raises(UnsupportedError):
        check(changed(good, path, value))


@pytest.mark.parametrize(
    "vocab", [[], [["a"]], [["a", "x"]], [["", 0.0]], [["a", 0.0], ["a", 0.0]], [["a", True]]]
)
def test_a_malformed_unigram_vocabulary_is_a_format_error(vocab):
    with pytest.raises(FormatError):
        check({"model": {"type": "Unigram", "vocab": vocab, "unk_id": None}})


def test_an_unknown_token_outside_the_vocabulary_is_a_format_error():
    for model in (
        {"type": "Unigram", "vocab": [["a", 0.0]], "unk_id": 1},
        {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "b"},
    ):
        with pytest.raises(FormatError, match="vocabulary"):
            check({"model": model})


# --- regular expressions -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "pattern", ["(a+)+", r"(\s*)*$", "a+a+a+a+b", r"\w+\w+", "a{1,9999}", "(", r"\s+$", "a?a?a+"]
)
def test_an_unknown_regular_expression_is_refused(good, pattern):
    for place, value in (
        ("pre_tokenizer", splitter(pattern)),
        ("pre_tokenizer", {"type": "Sequence", "pretokenizers": [splitter(pattern)]}),
        ("normalizer", {"type": "Replace", "pattern": {"Regex": pattern}, "content": ""}),
    ):
        with pytest.raises(RefusedError, match="unknown regular expression"):
            check(changed(good, place, value))


@pytest.mark.parametrize(
    "pattern", [" {2,}", r"\p{N}{1,3}", r"[\r\n]", r"\d", "[一-龥]+", " ", r"\s?[A-Z]+"]
)
def test_one_character_class_is_safe(pattern):
    assert is_safe_pattern(pattern)


def test_checking_a_pattern_takes_no_exponential_time_itself():
    assert not is_safe_pattern("[" + r"\p{L}" * 5_000)


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        (
            "Llama 3",
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
            r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        ),
        (
            "Qwen 2",
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
            r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        ),
        (
            "GPT-4 (cl100k)",
            r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}"
            r"| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+",
        ),
        (
            "GPT-4o (o200k)",
            r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+"
            r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}"
            r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        ),
    ],
)
def test_the_patterns_of_published_tokenizers_are_known(name, pattern):
    assert KNOWN_PATTERNS[pattern] == name


@pytest.mark.tier2
@pytest.mark.parametrize("pattern", KNOWN_PATTERNS)
def test_known_patterns_compile_and_run_in_linear_time(good, tmp_path, pattern):
    """Text that makes backtracking engines slow: long runs that almost match."""
    (tmp_path / "tokenizer.json").write_text(
        json.dumps(changed(good, "pre_tokenizer", splitter(pattern)))
    )
    pre_tokenizer = Tokenizer.load(tmp_path)._inner.pre_tokenizer
    for text in ("a" * 20_000, " " * 20_000 + "x", "1" * 20_000, "!" * 20_000, "aA" * 10_000):
        pieces = pre_tokenizer.pre_tokenize_str(text)
        assert "".join(piece for piece, _ in pieces) == text


def test_the_gpt2_pattern_splits_as_byte_level_does(good, tmp_path):
    content = changed(
        good,
        "pre_tokenizer",
        {
            "type": "Sequence",
            "pretokenizers": [
                splitter(GPT2_PATTERN),
                {
                    "type": "ByteLevel", "use_regex": False,
                    "add_prefix_space": False, "trim_offsets": True,
                },
            ],
        },
    )  # fmt: skip
    (tmp_path / "a").mkdir()
    (tmp_path / "a/tokenizer.json").write_text(json.dumps(content))
    (tmp_path / "tokenizer.json").write_text(json.dumps(good))
    text = "I'll say: it's 12's  time\n\n  naïve 漢字!?  "
    one, two = Tokenizer.load(tmp_path / "a"), Tokenizer.load(tmp_path)
    assert one.encode(text).tolist() == two.encode(text).tolist()


# --- whole files -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b"null", b"\xff", b'{"model": NaN}', b'{"a": 1, "a": 2}', b"[" * 999]
)
def test_a_file_that_is_no_tokenizer_is_a_format_error(tmp_path, data):
    (tmp_path / "tokenizer.json").write_bytes(data)
    with pytest.raises(FormatError):
        Tokenizer.load(tmp_path)


def test_an_error_of_the_library_is_a_format_error(good, tmp_path):
    (tmp_path / "tokenizer.json").write_text(json.dumps(changed(good, "version", "9.9")))
    with pytest.raises(FormatError, match="cannot be used"):
        Tokenizer.load(tmp_path)


def test_a_template_with_an_id_outside_the_vocabulary_is_a_format_error(good, tmp_path):
    bert = {"type": "BertProcessing", "sep": ["x", 999], "cls": ["the", 1]}
    (tmp_path / "tokenizer.json").write_text(json.dumps(changed(good, "post_processor", bert)))
    with pytest.raises(FormatError, match="gives the id 999"):
        Tokenizer.load(tmp_path)


def test_a_panic_of_the_library_is_a_format_error(good, tmp_path):
    charsmap = {"type": "Precompiled", "precompiled_charsmap": "BAAAAP////8="}
    (tmp_path / "tokenizer.json").write_text(json.dumps(changed(good, "normalizer", charsmap)))
    with pytest.raises(FormatError, match="cannot be used"):
        Tokenizer.load(tmp_path)


def places(value, path=()):
    """The paths of all values inside a JSON value."""
    yield path
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, inner in list(items)[:8]:
            yield from places(inner, (*path, key))


def variants(good):
    """Tokenizers that together have every kind of part."""
    word = {"[UNK]": 0, "the": 1, "##x": 2}
    piece = {"type": "WordPiece", "vocab": word, "unk_token": "[UNK]"}
    piece |= {"continuing_subword_prefix": "##", "max_input_chars_per_word": 100}
    unigram = {"type": "Unigram", "unk_id": 0, "byte_fallback": False}
    unigram["vocab"] = [["<unk>", 0.0], ["▁the", -1.0], ["c", -2.5]]
    space = {"pattern": {"Regex": " {2,}"}, "content": "▁"}
    metaspace = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
    template = {
        "type": "TemplateProcessing",
        "single": [
            {"SpecialToken": {"id": "X", "type_id": 0}},
            {"Sequence": {"id": "A", "type_id": 0}},
        ],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"X": {"id": "X", "ids": [0], "tokens": ["X"]}},
    }
    bert = {"type": "BertProcessing", "sep": ["[UNK]", 0], "cls": ["the", 1]}
    bare = good | {"added_tokens": [], "pre_tokenizer": None, "decoder": None}
    yield good | {
        "post_processor": template,
        "normalizer": {
            "type": "Sequence",
            "normalizers": [{"type": "NFC"}, {"type": "Prepend", "prepend": "_"}],
        },
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [
                splitter(GPT2_PATTERN),
                {"type": "Digits", "individual_digits": True},
                {"type": "FixedLength", "length": 4},
                {"type": "CharDelimiterSplit", "delimiter": "-"},
                {"type": "Punctuation", "behavior": "Isolated"},
                good["pre_tokenizer"] | {"use_regex": False},
            ],
        },
    }
    yield bare | {
        "model": piece,
        "post_processor": bert,
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": True,
            "strip_accents": None,
            "lowercase": True,
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
    }
    yield bare | {
        "model": unigram, "pre_tokenizer": metaspace, "post_processor": None,
        "normalizer": {"type": "Replace"} | space,
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
                {"type": "ByteFallback"}, {"type": "Fuse"},
                {"type": "Strip", "content": " ", "start": 1, "stop": 0},
            ],
        },
    }  # fmt: skip


JUNK = st.sampled_from(
    [None, -1, 0, 1, 2**32, 10**9, 1.5, True, "", "x", "##", "é", [], {}, [["a", "b"]], "\0"]
)


@pytest.mark.tier2
@settings(
    max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data(), junk=JUNK, delete=st.booleans())
def test_any_change_of_one_value_loads_or_is_an_error_of_ours(good, tmp_path, data, junk, delete):
    content = copy.deepcopy(data.draw(st.sampled_from([good, *variants(good)])))
    *parents, last = data.draw(st.sampled_from([path for path in places(content) if path]))
    place = content
    for key in parents:
        place = place[key]
    if delete:
        del place[last]
    else:
        place[last] = junk
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    try:
        tokenizer = Tokenizer.load(tmp_path)
        tokenizer.decode(tokenizer.encode("the cat 12 漢字\n"))
    except EntrenarError as error:
        assert not isinstance(error, NotFoundError)
        assert error.hint


@pytest.mark.parametrize("index", range(3))
def test_files_with_every_kind_of_part_load(good, tmp_path, index):
    (tmp_path / "tokenizer.json").write_text(json.dumps(list(variants(good))[index]))
    assert Tokenizer.load(tmp_path).encode("the").size
