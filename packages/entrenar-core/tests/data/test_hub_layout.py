"""Which files of a repository are which split: the examples of the Hub's documentation, and the
cases around them."""

import pytest

from entrenar_common.errors import FormatError, NotFoundError, UnsupportedError
from entrenar_core.data.hub_card import CardConfig, card_configs
from entrenar_core.data.hub_layout import (
    converted_splits,
    data_files,
    one_split,
    readable,
    splits_by_name,
    splits_of,
)


def by_name(*paths):
    return splits_by_name(data_files(paths))


# --- names ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (["train.csv", "test.csv", "validation.csv"], ["train", "validation", "test"]),
        (["data/train.csv", "data/test.csv"], ["train", "test"]),
        (["train/data.csv", "dev/data.csv"], ["train", "validation"]),
        (["data/train/shard_0.csv", "data/test/shard_0.csv"], ["train", "test"]),
        (["my_train_file_2.csv", "my-eval.csv"], ["train", "test"]),
        (["a training 1.csv", "valid1.jsonl", "b.val.csv"], ["train", "validation"]),
        (["data/aug-00000-of-00002.csv", "data/aug-00001-of-00002.csv"], ["aug"]),
        (["data/x.y-00000-of-00001-0a1b.parquet", "test.csv"], ["x.y"]),
        (["constrained.csv", "testament.csv", "Train.csv"], ["train"]),  # no word, no split
        (["data.csv"], ["train"]),
        (["untrained/a.csv", "pre-train_2/b.csv"], ["train"]),
        ([], []),
    ],
)
def test_splits_are_words_in_names(paths, expected):
    assert list(by_name(*paths)) == expected


def test_every_file_of_a_split_is_in_it_by_name():
    found = by_name("test/z.csv", "train/b.csv", "train/a.csv", "train/deep/c.csv")
    assert found == {
        "train": ["train/a.csv", "train/b.csv", "train/deep/c.csv"], "test": ["test/z.csv"],
    }  # fmt: skip


def test_folders_decide_before_names_of_files():
    assert by_name("train/test.csv", "other.csv") == {"train": ["train/test.csv"]}


def test_what_is_no_data_decides_nothing():
    paths = ["README.md", "test.py", ".test/a.csv", "__test__/a.csv", "config.json", ".train.csv",
             "tests/run", "LICENSE", "all.csv"]  # fmt: skip
    assert by_name(*paths) == {"train": ["all.csv"]}


# --- configs of the card ----------------------------------------------------------------------


def configs(text):
    return card_configs(f"---\n{text}\n---\n# A dataset\n", "card")


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ("a.csv", {"train": ("a.csv",)}),
        ("[a.csv, 'b/*.csv']", {"train": ("a.csv", "b/*.csv")}),
        ("{train: a.csv, test: [b.csv, c.csv]}", {"train": ("a.csv",), "test": ("b.csv", "c.csv")}),
        ("[{split: dev, path: d.csv}, {split: 1, path: [e.csv]}]",
         {"dev": ("d.csv",), "1": ("e.csv",)}),
    ],
)  # fmt: skip
def test_data_files_are_written_in_four_ways(files, expected):
    (config,) = configs(f"configs:\n- config_name: x\n  data_files: {files}")
    assert config == CardConfig("x", False, expected)


def test_a_card_says_the_default_the_folder_and_how_files_are_to_be_read():
    first, second = configs(
        "configs: [{config_name: no, default: true, data_dir: ./a/},"
        " {config_name: y, data_files: y.csv, sep: ';', encoding: latin-1}]"
    )
    assert first == CardConfig("no", True, None, "a")
    assert second.options == ("encoding", "sep")


@pytest.mark.parametrize("card", ["", "# No front matter", "---\nlicense: mit", "---\n---\n"])
def test_a_card_may_say_nothing(card):
    assert card_configs(card, "card") == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("configs: 3", "configs: wanted a list"),
        ("configs: [{data_files: {train: 3}}]", "configs.0.data_files: wanted a path"),
        ("configs: [{data_files: []}]", "configs.0.data_files: wanted a path"),
        ("configs: [{data_files: [{split: a}]}]", "wanted a split and a path"),
        ("configs: [{config_name: a}, {config_name: a}]", "two have one name"),
        ("configs: [{data_files: ../x.csv}]", "not below the repository"),
        ("configs: [{data_files: 'https://x.org/a.csv'}]", "not below the repository"),
        ("configs: [", "card:2:11"),
        ("x: !!python/object:os.system {}", "tag"),
    ],
)
def test_a_card_that_cannot_be_followed_is_refused_with_the_place(text, said):
    with pytest.raises(FormatError) as caught:
        configs(text)
    assert said in str(caught.value)


PATHS = ["en/train/1.csv", "en/train/0.csv", "en/test.csv", ".old/a.csv", "en/.x/a.csv", "en/a.py"]


@pytest.mark.parametrize(
    ("globs", "expected"),
    [
        (["en/train/*.csv"], ["en/train/0.csv", "en/train/1.csv"]),
        (["en/test.csv", "**/*.csv"], ["en/test.csv", "en/train/0.csv", "en/train/1.csv"]),
        (["**.csv"], ["en/test.csv", "en/train/0.csv", "en/train/1.csv"]),
        (["*.csv"], []),
        (["en/**"], ["en/test.csv", "en/train/0.csv", "en/train/1.csv"]),
        ([".old/*"], [".old/a.csv"]),
    ],
)
def test_globs_take_files_in_the_order_of_globs_and_names(globs, expected):
    config = CardConfig("x", False, {"all": tuple(globs)})
    assert splits_of(config, PATHS) == {"all": expected}


def test_names_decide_below_the_folder_of_a_config_without_globs():
    config = CardConfig("x", False, None, "en")
    found = splits_of(config, [*PATHS, "de/train/2.csv"])
    assert found == {"train": ["en/train/0.csv", "en/train/1.csv"]}


# --- formats, and the converted branch --------------------------------------------------------


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (["a.csv", "b.csv", "LICENSE.txt"], ["a.csv", "b.csv"]),
        (["a.jsonl", "LICENSE.txt"], ["a.jsonl"]),
        (["a.PARQUET", "a.csv"], ["a.PARQUET"]),
        (["story.txt", "setup.py"], ["story.txt"]),
    ],
)
def test_the_most_frequent_suffix_is_the_format(files, expected):
    assert [path for path, _ in readable(files, "x")] == expected


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (["a.json", "LICENSE.txt"], "its files are .json"),
        (["a.jsonl.gz", "b.tar.gz", "info.csv"], "its files are .gz"),
        (["a.py", "LICENSE"], "it has no data files"),
        ([], "it has no data files"),
    ],
)
def test_files_that_cannot_be_read_are_named(files, said):
    with pytest.raises(UnsupportedError, match=said):
        readable(files, "x")


def test_a_split_that_does_not_exist_is_answered_with_those_that_do():
    with pytest.raises(NotFoundError, match="no split 'b'") as caught:
        one_split({"a": ["x.csv"], "c": [], "d": ["y.csv"]}, "b", "x")
    assert caught.value.hint == "set split to one of: a, d"


def test_the_converted_branch_has_configs_and_splits_as_folders():
    paths = ["b/test/0000.parquet", "a/train/0001.parquet", "a/train/0000.parquet"]
    assert converted_splits([*paths, ".gitattributes", "README.md"]) == {
        "a": {"train": ["a/train/0000.parquet", "a/train/0001.parquet"]},
        "b": {"test": ["b/test/0000.parquet"]},
    }
    assert converted_splits([*paths, "train.csv"]) == {}
