"""The files of a cache: what was altered or is about something else is an error, and what was
interrupted goes on."""

import contextlib
import dataclasses
import errno
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from entrenar_common.errors import (
    IntegrityError,
    NotFoundError,
    NumericsError,
    RefusedError,
    StorageError,
    UnsupportedError,
)
from entrenar_core.data.batches import IGNORED
from entrenar_core.distill import Divergence
from entrenar_core.distill.cache import CachedTeacher, CacheFolder, CacheWriter
from entrenar_core.distill.cache import writer as writing
from entrenar_core.io.faults import inject
from teacher_caches import KEYS, LENGTH, cached, live, rows, writer

pytestmark = pytest.mark.tier2


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The folder of a cache, to be copied."""
    return cached(tmp_path_factory.mktemp("cache") / "cache").folder.path


@pytest.fixture
def folder(made, tmp_path):
    return Path(shutil.copytree(made, tmp_path / "cache"))


@pytest.fixture
def small_parts(monkeypatch):
    """Parts of two rows, so that nine rows have five."""
    monkeypatch.setattr(writing, "PART_TOKENS", 2 * LENGTH)


def contents(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.name[0] != "."}


# --- about something else -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("teacher", "e" * 64, "the teacher's files: aaaaaaaaaaaa in the cache, eeeeeeeeeeee here"),
        ("teacher_dtype", "bfloat16", "held in (training.mixed_precision): float32 in the cache"),
        ("tokenizer", "e" * 64, "the tokenizer: bbbbbbbbbbbb in the cache"),
        ("text", "e" * 64, "the documents (the text, how it is read and tokenized): cccccccccccc"),
        ("training", "e" * 64, "trained on (training.seed, dataset.held_out): dddddddddddd in"),
        ("seq_len", 16, "tokens of a row (dataset.max_length): 8 in the cache, 16 here"),
        ("packing", False, "rows are packed (dataset.packing): True in the cache, False here"),
        ("eos_id", 3, "the id that ends a document: 0 in the cache, 3 here"),
        ("pad_id", 3, "the id that fills rows: None in the cache, 3 here"),
        ("rows", 10, "rows: 9 in the cache, 10 here"),
        ("shared", 40, "ids that teacher and student share: 59 in the cache, 40 here"),
    ],
)
def test_a_cache_of_something_else_is_refused_and_what_differs_is_named(made, key, value, told):
    wanted = dataclasses.replace(KEYS, **{key: value})
    with pytest.raises(IntegrityError, match=r"is of something else$") as caught:
        CachedTeacher(CacheFolder(made)).check(wanted, Divergence(temperature=2.0))
    assert len(caught.value.details) == 1
    assert told in caught.value.details[0]


def test_the_cache_of_these_inputs_is_taken(made):
    CachedTeacher(CacheFolder(made)).check(KEYS, Divergence(temperature=2.0))


def test_what_follows_from_another_difference_is_not_told(made):
    wanted = dataclasses.replace(KEYS, text="e" * 64, training="f" * 64, rows=4)
    assert len(CacheFolder(made).plan.keys.differences(wanted)) == 1


# --- altered ------------------------------------------------------------------------------------


def test_a_bit_that_was_changed_in_a_row_is_noticed_when_it_is_read(folder):
    path = folder / "part-00000.rows"
    index = CacheFolder(folder).index
    for row_id in (0, 4, 8):
        data = bytearray(path.read_bytes())
        data[int(index["end"][row_id]) - 1] ^= 1
        path.write_bytes(data)
        with pytest.raises(IntegrityError, match=f"part-00000.rows: row {row_id} was altered$"):
            CacheFolder(folder).row(row_id)


def test_a_row_is_read_where_another_was_altered(folder):
    path = folder / "part-00000.rows"
    data = bytearray(path.read_bytes())
    data[0] ^= 1
    path.write_bytes(data)
    assert len(CacheFolder(folder).row(1).tokens) == LENGTH


@pytest.mark.parametrize("name", ["part-00000.rows", "part-00000.index"])
def test_a_file_that_was_cut_is_noticed_when_the_cache_is_opened(folder, name):
    path = folder / name
    path.write_bytes(path.read_bytes()[:-1])
    size = path.stat().st_size
    with pytest.raises(IntegrityError, match=f"{name}: has {size} bytes, wanted {size + 1}$"):
        CacheFolder(folder)


def test_a_file_that_is_cut_later_is_noticed_too(folder):
    opened, path = CacheFolder(folder), folder / "part-00000.rows"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(IntegrityError, match=r"part-00000\.rows: has .* bytes, wanted"):
        opened.row(0)


def test_rows_that_are_missing_are_noticed(folder):
    (folder / "part-00000.rows").unlink()
    with pytest.raises(IntegrityError, match=r"part-00000\.rows: is missing$"):
        CacheFolder(folder)


def test_an_index_that_was_altered_is_noticed(folder):
    path = folder / "part-00000.index"
    data = bytearray(path.read_bytes())
    data[20] ^= 1
    path.write_bytes(data)
    with pytest.raises(IntegrityError, match=r"part-00000\.index: altered$"):
        CacheFolder(folder)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda m: m["keys"].update(rows=8), IntegrityError, "its fingerprint does not match"),
        (lambda m: m["settings"].update(mass=0.5), IntegrityError, "its fingerprint does not"),
        (lambda m: m["settings"].update(mass=7), IntegrityError, "not a cache's manifest"),
        (lambda m: m.pop("keys"), IntegrityError, "not a cache's manifest"),
        (lambda m: m.pop("indices"), IntegrityError, "its fingerprint does not match"),
        (lambda m: m.update(schema="entrenar.teacher-cache/2"), UnsupportedError, "this version"),
    ],
)
def test_a_manifest_that_was_altered_is_noticed(folder, change, error, message):
    path = folder / "manifest.json"
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))
    with pytest.raises(error, match=message):
        CacheFolder(folder)


def test_a_folder_without_a_manifest_is_no_cache(folder, tmp_path):
    (folder / "manifest.json").unlink()
    with pytest.raises(NotFoundError, match="holds no cache of a teacher's predictions"):
        CacheFolder(folder)
    with pytest.raises(NotFoundError, match="holds no cache"):
        CacheFolder(tmp_path / "nowhere")


# --- interrupted --------------------------------------------------------------------------------


def test_an_error_of_any_file_operation_leaves_a_cache_that_goes_on(small_parts, ram_path):
    """Whatever fails, there is no finished cache or a whole one, and the next try ends with what an
    undisturbed one has."""
    teacher = live()
    with inject() as count:
        writer(ram_path / "plain", teacher=teacher).write()
    wanted = contents(ram_path / "plain")
    for at in range(1, len(count.calls) + 1):
        path = ram_path / str(at)
        with inject(at, errno=errno.EIO), contextlib.suppress(StorageError):
            writer(path, teacher=teacher).write()
        if (path / "manifest.json").exists():
            CacheFolder(path)
            found = contents(path)
            found.pop("unfinished.json", None)
        else:
            writer(path, teacher=teacher).write()
            found = contents(path)
        assert found == wanted, f"operation {at}: {count.calls[at - 1]}"
        shutil.rmtree(path)


def test_parts_that_are_there_are_not_made_again(small_parts, tmp_path, monkeypatch):
    asked: list[list[int]] = []

    class Counting:
        shared, inner = live().shared, live()

        def expected(self, batch):
            if len(asked) == 3:
                raise KeyboardInterrupt
            asked.append(batch.row_ids.tolist())
            return self.inner.expected(batch)

    with pytest.raises(KeyboardInterrupt):
        writer(tmp_path / "cache", teacher=Counting()).write()
    assert asked == [[0, 1], [2, 3], [4, 5]]
    with pytest.raises(NotFoundError, match="holds an unfinished cache"):
        CacheFolder(tmp_path / "cache")
    asked[:] = [[]]
    again = writer(tmp_path / "cache", teacher=Counting())
    assert again.begun == 6
    again.write()
    assert asked == [[], [6, 7], [8]]
    writer(tmp_path / "plain").write()
    assert contents(tmp_path / "cache") == contents(tmp_path / "plain")


def test_what_a_killed_process_left_is_cleared_away(tmp_path):
    path = tmp_path / "cache"
    path.mkdir()
    (path / ".part-00000.rows.tmp-1-abc").write_bytes(b"half")
    writer(path).write()
    assert not list(path.glob(".*.tmp-*"))


def test_another_cache_that_is_not_finished_is_left_alone(folder):
    (folder / "manifest.json").rename(folder / "unfinished.json")
    before = contents(folder)
    with pytest.raises(RefusedError, match="another cache that is not finished") as caught:
        writer(folder, mass=0.5)
    assert "mass=0.9" in caught.value.details[0]
    assert "mass=0.5" in caught.value.details[0]
    assert contents(folder) == before


def test_a_finished_cache_is_not_overwritten(folder):
    with pytest.raises(RefusedError, match="already holds a cache"):
        writer(folder)


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(RefusedError, match="is not empty and holds no cache"):
        writer(tmp_path)


# --- what is written ----------------------------------------------------------------------------


def test_positions_without_a_target_have_no_ids(tmp_path):
    batches = rows(packing=False)
    keys = dataclasses.replace(KEYS, packing=False, rows=batches.rows)
    settings = writer(tmp_path / "unused").plan.settings
    found = CacheWriter(tmp_path / "cache", live(), batches, keys=keys, settings=settings).write()
    for row_id in range(batches.rows):
        labels = batches.gather(np.array([row_id])).labels[0]
        assert ((found.row(row_id).counts > 0) == (labels != IGNORED)).all()


def test_the_estimate_is_that_of_equal_rows(tmp_path):
    found = writer(tmp_path / "cache", mass=1.0, max_k=7)
    assert found.estimate() == found.write().size


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_teacher_that_is_not_finite_is_refused_with_the_document(tmp_path, bad):
    teacher = live()
    weights = teacher.model.named_parameters()["model.embed_tokens.weight"].data
    weights[int(rows().gather(np.array([0])).ids[0, 2])] = bad
    with pytest.raises(NumericsError, match=re.escape("the documents a.txt")):
        writer(tmp_path / "cache", teacher=teacher).write()
