"""Folders that are complete or not there."""

import errno

import pytest

from entrenar_common.errors import RefusedError, StorageError
from entrenar_core.io import files
from entrenar_core.io.faults import inject
from entrenar_core.io.new_folder import check_new, new_folder


def test_a_folder_appears_when_the_body_ends(tmp_path):
    with new_folder(tmp_path / "in" / "a") as folder:
        files.write_text(folder / "x", "one")
        assert not (tmp_path / "in" / "a").exists()
    assert (tmp_path / "in" / "a" / "x").read_text() == "one"
    assert [path.name for path in (tmp_path / "in").iterdir()] == ["a"]


def test_an_error_of_the_body_leaves_nothing(tmp_path):
    with pytest.raises(KeyError), new_folder(tmp_path / "a") as folder:
        files.write_text(folder / "x", "one")
        raise KeyError
    assert not list(tmp_path.iterdir())


def test_an_empty_folder_gives_way_and_another_does_not(tmp_path):
    (tmp_path / "a").mkdir()
    with new_folder(tmp_path / "a") as folder:
        files.write_text(folder / "x", "one")
    for taken in ("a", "a/x"):
        with pytest.raises(RefusedError, match="exists already"):
            check_new(tmp_path / taken)
    (tmp_path / "link").symlink_to("nowhere")
    with pytest.raises(RefusedError):
        check_new(tmp_path / "link")


def test_any_failing_operation_leaves_all_or_nothing(tmp_path):
    def fill(path):
        with new_folder(path) as folder:
            files.write_text(folder / "x", "one")

    with inject() as count:
        fill(tmp_path / "first" / "a")
    for at in range(1, len(count.calls) + 1):
        inside = tmp_path / str(at)
        inside.mkdir()
        with inject(at, errno=errno.EIO), pytest.raises(StorageError):
            fill(inside / "a")
            raise StorageError("the last operations make durable what is there")
        found = [path.name for path in inside.iterdir()]
        assert found in ([], ["a"])
        assert not found or (inside / "a" / "x").read_text() == "one"
