"""Tokenizing a dataset, its cache, and the division into training and held-out documents."""

import errno
import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from entrenar_common.errors import ConfigError, FormatError, StorageError
from entrenar_core.data import tokens as tokens_module
from entrenar_core.data.documents import TokenizedDocuments
from entrenar_core.data.sources import DatasetSpec
from entrenar_core.data.tokenizer import Tokenizer, train_bpe
from entrenar_core.data.tokens import cache_folder, split, tokenize
from entrenar_core.io import files


@pytest.fixture(scope="module")
def tokenizer():
    return train_bpe(["one two three four five"] * 3, 270)


@pytest.fixture
def corpus(tmp_path):
    """Three documents: the texts by name."""
    texts = {"a.txt": "one two ä", "b.txt": "three\nfour", "c.txt": "five 🙂 six"}
    (tmp_path / "data").mkdir()
    for name, text in texts.items():
        (tmp_path / "data" / name).write_text(text, "utf-8")
    return texts


@pytest.fixture
def run(tmp_path, tokenizer):
    """Tokenizes the corpus with a cache of its own."""

    def call(use=tokenizer, *, progress=None, use_cache=True, cache=None, **options):
        spec = DatasetSpec(("*.txt",), root=tmp_path / "data", **options)
        root = cache or tmp_path / "cache"
        return tokenize(spec, use, progress=progress, cache_root=root, use_cache=use_cache)

    return call


@pytest.fixture
def encodings(monkeypatch):
    """Counts the calls that really tokenize."""
    calls = []
    encode = Tokenizer.encode_many
    monkeypatch.setattr(
        Tokenizer, "encode_many", lambda self, texts: calls.append(1) or encode(self, texts)
    )
    return calls


def contents(docs):
    ids = [docs.document(i).tolist() for i in range(len(docs))]
    return list(docs.names), ids, docs.byte_counts.tolist(), docs.max_id, docs.fingerprint


@pytest.mark.parametrize("use_cache", [True, False])
def test_documents_have_the_ids_of_their_texts_and_their_utf8_bytes(
    corpus, run, tokenizer, use_cache
):
    docs = run(use_cache=use_cache)
    ids = [tokenizer.encode(text).tolist() for text in corpus.values()]
    found = contents(docs)
    assert found[:4] == (
        list(corpus), ids, [len(text.encode()) for text in corpus.values()], max(map(max, ids))
    )  # fmt: skip
    assert docs.tokens.dtype == np.int32
    assert docs.total_tokens == sum(map(len, ids))
    assert docs.offsets.tolist() == np.cumsum([0, *map(len, ids)]).tolist()


def test_the_second_call_reads_the_cache_and_finds_the_same(corpus, run, encodings):
    first = contents(run())
    assert len(encodings) == 1
    assert contents(run()) == first
    assert len(encodings) == 1


def test_cached_and_uncached_documents_have_the_same_fingerprint(corpus, run):
    assert run().fingerprint == run(use_cache=False).fingerprint


def test_chunks_do_not_change_the_result(corpus, run, monkeypatch):
    whole = contents(run(use_cache=False))
    monkeypatch.setattr(tokens_module, "_CHUNK_DOCUMENTS", 1)
    assert contents(run()) == whole


def grow(folder):
    (folder / "a.txt").write_text("changed")


def touch(folder):
    os.utime(folder / "a.txt", ns=(1, 1))


def add(folder):
    (folder / "d.txt").write_text("new")


def remove(folder):
    (folder / "a.txt").unlink()


@pytest.mark.parametrize("change", [grow, touch, add, remove])
def test_a_change_of_the_files_is_noticed(corpus, run, encodings, tmp_path, change):
    run()
    change(tmp_path / "data")
    run()
    assert len(encodings) == 2


def test_another_tokenizer_or_option_has_another_cache(corpus, run, encodings):
    run()
    run(train_bpe(["something else"] * 3, 265))
    run(max_documents=2)
    assert len(encodings) == 3


@pytest.mark.tier2
@pytest.mark.parametrize("name", ["tokens.bin", "documents.bin", "names.txt", "meta.json"])
@pytest.mark.parametrize("damage", [b"", None])
def test_a_damaged_cache_is_made_again(corpus, run, tmp_path, name, damage):
    wanted = contents(run())
    (path,) = (tmp_path / "cache").glob(f"*/{name}")
    if damage is None:
        path.unlink()
    else:
        path.write_bytes(damage)
    assert contents(run()) == wanted


def test_a_cache_folder_that_cannot_be_made_is_a_warning(corpus, run, tmp_path):
    (tmp_path / "file").write_text("")
    docs = run(cache=tmp_path / "file" / "cache")
    assert list(docs.names) == list(corpus)
    assert "not cached" in docs.warnings[0]


def test_a_full_disk_leaves_no_cache_behind(corpus, run, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(files.os_calls, "write", full)
        with pytest.raises(StorageError):
            run()
    assert not list((tmp_path / "cache").glob("*/*"))
    assert list(run().names) == list(corpus)


def test_skipped_documents_are_counted_again_from_the_cache(corpus, run, tmp_path):
    (tmp_path / "data" / "bad.txt").write_bytes(b"\xff")
    with pytest.raises(FormatError):
        run()
    for _ in range(2):
        docs = run(skip_bad=True)
        assert docs.skips.count == 1
        assert "bad.txt" in docs.skips.problems[0]


class Recorder:
    """A progress that keeps what it was told."""

    def __init__(self):
        self.total, self.seen, self.finished = None, 0, 0

    def start(self, task_name, total):
        self.total = total

    def advance(self, n=1, **fields):
        self.seen += n

    def finish(self):
        self.finished += 1


def test_progress_counts_the_bytes_of_the_files(corpus, run):
    progress = Recorder()
    run(progress=progress)
    size = sum(len(text.encode()) for text in corpus.values())
    assert (progress.total, progress.seen, progress.finished) == (size, size, 1)


def test_progress_is_finished_when_the_work_fails(corpus, run, tmp_path):
    (tmp_path / "data" / "bad.txt").write_bytes(b"\xff")
    progress = Recorder()
    with pytest.raises(FormatError):
        run(progress=progress)
    assert progress.finished == 1


def test_the_cache_is_below_the_xdg_folder(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert cache_folder().as_posix() == "/somewhere/entrenar/tokens"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # the specification: to be ignored
    monkeypatch.setenv("HOME", "/home/me")
    assert cache_folder().as_posix() == "/home/me/.cache/entrenar/tokens"


# --- selection and division --------------------------------------------------------------------


def documents(count):
    ids = [np.array([i, i + 1], np.int32) for i in range(count)]
    return TokenizedDocuments.from_arrays([f"d{i}" for i in range(count)], ids, [3] * count)


def test_selected_documents_share_their_tokens():
    docs = documents(5)
    some = docs.select([3, 1])
    assert list(some.names) == ["d3", "d1"]
    assert [some.document(i).tolist() for i in range(2)] == [[3, 4], [1, 2]]
    assert np.shares_memory(some.tokens, docs.tokens)
    assert some.total_bytes == 6


def test_different_selections_have_different_fingerprints():
    docs = documents(5)
    assert len({docs.fingerprint, *(docs.select(s).fingerprint for s in ([0], [1], [0, 1]))}) == 4


@settings(deadline=None)
@given(count=st.integers(2, 60), share=st.floats(0.001, 0.999), seed=st.integers(0, 5))
def test_each_document_is_on_one_side_and_neither_is_empty(count, share, seed):
    train, held_out = split(documents(count), share, seed)
    assert sorted([*train.names, *held_out.names]) == sorted(documents(count).names)
    assert len(train) >= 1
    assert len(held_out) >= 1
    assert abs(len(held_out) - share * count) <= 1


def test_the_division_depends_on_the_seed_only():
    first, again, other = (split(documents(40), 0.25, seed)[1].names for seed in (1, 1, 2))
    assert first == again != other


def test_both_sides_keep_the_order_of_documents():
    for side in split(documents(40), 0.25, 1):
        numbers = [int(name[1:]) for name in side.names]
        assert numbers == sorted(numbers)


@pytest.mark.parametrize(("count", "share"), [(1, 0.5), (5, 0.0), (5, 1.0), (5, float("nan"))])
def test_an_impossible_division_is_a_config_error(count, share):
    with pytest.raises(ConfigError):
        split(documents(count), share, 0)
