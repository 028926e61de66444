"""What a file or a folder was, and whether it still is that."""

import os

import pytest

from entrenar_common.errors import NotFoundError
from entrenar_shell.session import FileState
from entrenar_shell.states import holds, state_of


@pytest.fixture
def model(tmp_path):
    folder = tmp_path / "model"
    (folder / "inner").mkdir(parents=True)
    for name, size, time in (("a", 3, 10), ("inner/b", 4, 30), (".lock", 50, 99)):
        (folder / name).write_bytes(bytes(size))
        os.utime(folder / name, ns=(time, time))
    return folder


def test_a_file_has_its_bytes_and_its_time(model):
    assert state_of(model / "a") == FileState(str(model / "a"), 3, 10)


def test_a_folder_has_the_bytes_of_its_files_and_the_time_of_the_newest(model):
    assert state_of(model) == FileState(str(model), 7, 30)


def test_a_relative_path_becomes_absolute(model, monkeypatch):
    monkeypatch.chdir(model)
    assert state_of("inner/../a").path == str(model / "a")


def test_a_link_to_a_file_is_the_file(model):
    (model / "linked").symlink_to("a")
    assert state_of(model).size == 10


def test_a_link_to_a_folder_above_does_not_go_round(model):
    (model / "inner" / "up").symlink_to(model)
    assert state_of(model).size == 7


def test_a_link_to_nothing_in_a_folder_is_nothing(model):
    (model / "broken").symlink_to("gone")
    assert state_of(model).size == 7


def test_what_is_not_there_has_no_state(tmp_path):
    with pytest.raises(NotFoundError):
        state_of(tmp_path / "gone")


@pytest.mark.parametrize("name", ["a", "inner/b"])
def test_a_state_holds_until_the_file_changes(model, name):
    of_file, of_folder = state_of(model / name), state_of(model)
    assert holds(of_file)
    assert holds(of_folder)
    (model / name).write_bytes(b"other")
    assert not holds(of_file)
    assert not holds(of_folder)


def test_a_state_does_not_hold_of_what_is_gone(model):
    state = state_of(model / "a")
    (model / "a").unlink()
    assert not holds(state)


def test_the_state_of_a_folder_holds_while_it_is_locked(model):
    state = state_of(model)
    (model / ".other.lock").write_text("pid 7")
    assert holds(state)
