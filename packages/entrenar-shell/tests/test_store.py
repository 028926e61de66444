"""Sessions on a disk: what is saved comes back, and whatever else is found loses nothing."""

import errno
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings

from drawn_sessions import SESSIONS, sample
from entrenar_common.errors import (
    CheckpointError,
    FormatError,
    NotFoundError,
    RefusedError,
    StorageError,
    UnsupportedError,
    UsageError,
)
from entrenar_core.io.faults import inject
from entrenar_core.io.os_calls import os_calls
from entrenar_core.io.strict_json import parse_json
from entrenar_shell import store as store_module
from entrenar_shell.places import sessions_folder, state_folder
from entrenar_shell.session import Session
from entrenar_shell.session_json import SCHEMA, session_from_json, session_to_json
from entrenar_shell.store import SessionStore


@pytest.fixture(autouse=True)
def without_waiting_for_the_disk(monkeypatch):
    monkeypatch.setattr(os_calls, "fsync", lambda fd: None)


@pytest.fixture
def folder(tmp_path) -> Path:
    return tmp_path / "sessions"


@pytest.fixture
def saved(folder) -> bytes:
    """What the file of the sample session has; the session is closed again."""
    store = SessionStore(folder)
    store.open("work")
    store.save(sample())
    store.close()
    return (folder / "work.json").read_bytes()


def visible(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


# ---- what is saved comes back ------------------------------------------------------------------


@given(session=SESSIONS)
@settings(deadline=None)
def test_json_has_all_of_a_session(session):
    text = json.dumps(session_to_json(session), allow_nan=False)
    text.encode()
    assert repr(session_from_json(parse_json(text, "x"), "x")) == repr(session)  # nan is not nan


def test_a_session_comes_back_from_the_disk(folder, saved):
    assert SessionStore(folder).open("work") == store_module.Opened(sample())


def test_a_session_that_is_not_there_begins_empty(folder):
    assert SessionStore(folder).open("new") == store_module.Opened(Session("new"))


def test_the_file_is_the_users_alone(folder, saved):
    assert (folder / "work.json").stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700


def test_the_file_says_its_schema_first(saved):
    assert next(iter(json.loads(saved).items())) == ("schema", SCHEMA)


def test_a_renamed_file_is_a_session_of_that_name(folder, saved):
    (folder / "work.json").rename(folder / "other.json")
    assert SessionStore(folder).open("other").session.name == "other"


def test_the_oldest_of_too_many_entries_are_left_out(folder, monkeypatch):
    monkeypatch.setattr(store_module, "MAX_ENTRIES", 3)
    store, session = SessionStore(folder), sample()
    store.open("work")
    session.entries = [replace(session.entries[0], number=i) for i in range(1, 6)]
    store.save(session)
    assert [entry.number for entry in store.open("work").session.entries] == [3, 4, 5]


def test_entries_that_would_make_the_file_too_large_are_left_out(folder, monkeypatch):
    monkeypatch.setattr(store_module, "MAX_JSON_BYTES", 2_000)
    store, session = SessionStore(folder), sample()
    store.open("work")
    session.entries = [replace(session.entries[0], number=i) for i in range(1, 9)]
    store.save(session)
    assert (folder / "work.json").stat().st_size <= 2_000
    assert store.open("work").session.entries[-1].number == 8


# ---- what is no session ------------------------------------------------------------------------


def test_a_session_cut_off_at_any_byte_is_moved_aside(folder, saved):
    path, store = folder / "work.json", SessionStore(folder)
    for length in range(len(saved) - 1):  # without its last newline it is whole
        path.write_bytes(saved[:length])
        opened = store.open("work")
        (aside,) = visible(folder)
        assert opened.session == Session("work")
        assert aside in opened.notes[0]
        assert (folder / aside).read_bytes() == saved[:length]
        (folder / aside).unlink()


def changed(path: str, value: object) -> bytes:
    """The sample's JSON with something else at a path of keys and positions."""
    data = session_to_json(sample())
    at = data
    *parents, last = [int(key) if key.isdigit() else key for key in path.split(".")]
    for key in parents:
        at = at[key]
    at[last] = value
    return json.dumps(data).encode()


NO_SESSIONS = {
    "garbage": bytes(range(256)),
    "text": b"load t\nquit\n",
    "not an object": b"[1, 2]",
    "another program's": b'{"version": 3, "tabs": []}',
    "another schema": b'{"schema": "entrenar.distill.run/1", "data": {}}',
    "no version": b'{"schema": "entrenar.shell.session/one"}',
    "no fields": json.dumps({"schema": SCHEMA}).encode(),
    "nested": b'{"schema":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "NaN": changed("entries.0.seconds", float("nan")),
    "infinite": changed("entries.0.started", 0).replace(b'"started": 0', b'"started": 1e999'),
    "twice": b'{"schema": "a", "schema": "b"}',
    "a lone surrogate": changed("settings", [["a", "\ud800"]]),
    "models that are no list": changed("models", {"t": "/a/t"}),
    "a model twice": changed("models", [{"name": "t", "source": "/a"}] * 2),
    "a number as text": changed("entries.0.line", 3),
    "true as a number": changed("entries.0.number", True),
    "a fraction as a code": changed("entries.0.code", 0.5),
    "no list of words": changed("entries.0.plain", ["rm -r /"]),
    "bytes that are none": changed("entries.0.folder", {"bytes": "zz"}),
    "a state without its time": changed("entries.0.inputs", [{"path": "/a", "size": 1}]),
    "a metric as text": changed("entries.0.metrics", [["loss", "low"]]),
    "an unknown field": changed("colour", "blue"),
    "an unknown field of an entry": changed("entries.0.pid", 1),
}


@pytest.mark.parametrize("kind", NO_SESSIONS)
def test_what_is_no_session_is_moved_aside_and_said(folder, kind):
    folder.mkdir()
    (folder / "work.json").write_bytes(NO_SESSIONS[kind])
    store = SessionStore(folder)
    opened = store.open("work")
    assert opened.session == Session("work")
    assert len(opened.notes) == 1
    (aside,) = visible(folder)
    assert aside.startswith("work.corrupt-")
    assert (folder / aside).read_bytes() == NO_SESSIONS[kind]
    assert store.save(sample())  # and the shell goes on
    assert store.sessions()[0].entries == 1


def test_two_that_are_moved_aside_in_one_second_are_both_kept(folder):
    folder.mkdir()
    for text in ("one", "two"):
        (folder / "work.json").write_text(text)
        SessionStore(folder).open("work")
    assert sorted(path.read_text() for path in folder.glob("work.corrupt-*")) == ["one", "two"]


def test_a_session_of_a_newer_release_is_left_as_it_is(folder, saved):
    newer = saved.replace(b"session/1", b"session/7")
    (folder / "work.json").write_bytes(newer)
    with pytest.raises(UnsupportedError, match="version 7") as raised:
        SessionStore(folder).open("work")
    assert raised.value.exit_code == 15
    assert (folder / "work.json").read_bytes() == newer


def test_a_huge_file_is_refused_before_it_is_read(folder, monkeypatch):
    folder.mkdir()
    with (folder / "work.json").open("wb") as file:
        file.truncate(2**30)
    monkeypatch.setattr(store_module.files, "read_json", lambda *_: pytest.fail("was read"))
    with pytest.raises(RefusedError, match=r"1\.0 GiB") as raised:
        SessionStore(folder).open("work")
    assert raised.value.hint
    assert (folder / "work.json").stat().st_size == 2**30


def test_what_is_no_file_is_left_as_it_is(folder):
    (folder / "work.json").mkdir(parents=True)
    with pytest.raises(NotFoundError, match="not a regular file"):
        SessionStore(folder).open("work")
    assert visible(folder) == ["work.json"]


def test_names_from_a_file_are_shown_escaped(folder):
    folder.mkdir()
    (folder / "work.json").write_bytes(changed("\x1b[2J", 1))
    (note,) = SessionStore(folder).open("work").notes
    assert note.isprintable()


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../x", "a/b", ".hidden", "-x", "a b", "a\n", "é", "x" * 65, "a\0"]
)
def test_a_name_that_would_be_another_path_is_refused(folder, name):
    with pytest.raises(UsageError) as raised:
        SessionStore(folder).open(name)
    assert raised.value.hint


def test_what_was_moved_aside_is_not_a_session(folder, saved):
    (folder / "work.json").rename(folder / "work.corrupt-20200101T000000Z.json")
    assert SessionStore(folder).sessions() == []


def test_nothing_in_a_session_is_carried_out_when_it_is_opened(folder, tmp_path):
    trap = tmp_path / "trap"
    session = sample()
    line = f"!touch {trap}; $(touch {trap})"
    session.entries = [replace(session.entries[0], line=line, plain=(("touch", str(trap)),))]
    session.settings = {"__class__": line, "{0}": "%s"}
    store = SessionStore(folder)
    store.open("work")
    store.save(session)
    assert store.open("work").session == session
    assert not trap.exists()


# ---- permissions, disks, processes -------------------------------------------------------------


def test_a_file_that_others_can_read_is_made_the_users_alone(folder, saved):
    (folder / "work.json").chmod(0o644)
    opened = SessionStore(folder).open("work")
    assert opened.session == sample()
    assert len(opened.notes) == 1
    assert (folder / "work.json").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS])
def test_in_a_folder_that_cannot_be_written_a_session_is_read_and_not_kept(folder, saved, code):
    store = SessionStore(folder)
    with inject(1, errno=code, forever=True):
        opened = store.open("work")
        assert opened.session == sample()
        assert len(opened.notes) == 1
        assert "not kept" in opened.notes[0]
        assert not store.save(opened.session)
    assert (folder / "work.json").read_bytes() == saved


def test_a_damaged_session_in_a_folder_that_cannot_be_written_stays(folder, saved):
    (folder / "work.json").write_bytes(saved[:40])
    with inject(1, errno=errno.EROFS, forever=True):
        opened = SessionStore(folder).open("work")
    assert opened.session == Session("work")
    assert len(opened.notes) == 1
    assert visible(folder) == ["work.json"]


def test_a_folder_that_cannot_be_made_leaves_a_session_that_is_not_kept(folder):
    store = SessionStore(folder)
    with inject(1, errno=errno.EACCES, forever=True):
        for opened in (store.open("work"), store.start("work")):
            assert opened.session == Session("work")
            assert len(opened.notes) == 1


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_a_save_that_fails_anywhere_leaves_old_or_new(folder, saved, code):
    store, new = SessionStore(folder), replace(sample(), settings={"a": "b"})
    store.open("work")
    with inject() as count:
        store.save(sample())
    for at in range(1, len(count.calls) + 1):
        (folder / "work.json").write_bytes(saved)
        with inject(at, errno=code):
            try:
                store.save(new)
            except StorageError as error:
                assert error.hint
        left = SessionStore(folder)._as_read("work")
        assert left in (sample(), new)
        assert visible(folder) == ["work.json"]


_KILLED = """
import sys
from pathlib import Path
from entrenar_core.io.faults import inject
from entrenar_shell.store import SessionStore
store = SessionStore(Path(sys.argv[1]))
session = store.open("work").session
session.settings["a"] = "b"
with inject(int(sys.argv[2]), kill=True):
    store.save(session)
"""


@pytest.mark.tier2
@pytest.mark.parametrize("at", [1, 2, 3, 5])
def test_a_shell_that_is_killed_while_it_saves_leaves_a_whole_file(folder, saved, at):
    done = subprocess.run([sys.executable, "-c", _KILLED, str(folder), str(at)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert (folder / "work.json").read_bytes() == saved
    opened = SessionStore(folder).open("work")  # the kernel has released its lock
    assert opened == store_module.Opened(sample())


def test_a_second_shell_works_on_a_copy_and_says_so(folder, saved):
    first, second, third = (SessionStore(folder) for _ in range(3))
    assert first.open("work").notes == ()
    opened = second.open("work")
    assert opened.session == replace(sample(), name="work-2")
    assert str(os.getpid()) in opened.notes[0]
    assert "work-2" in opened.notes[0]
    assert third.open("work").session.name == "work-3"
    opened.session.settings["a"] = "b"
    second.save(opened.session)
    assert (folder / "work.json").read_bytes() == saved
    assert visible(folder) == ["work-2.json", "work.json"]


def test_a_copy_takes_no_name_that_a_session_has(folder, saved):
    (folder / "work-2.json").write_bytes(saved)
    first, second = SessionStore(folder), SessionStore(folder)
    first.open("work")
    assert second.open("work").session.name == "work-3"


def test_a_damaged_session_that_is_open_elsewhere_stays_and_the_copy_is_empty(folder, saved):
    first, second = SessionStore(folder), SessionStore(folder)
    first.open("work")
    (folder / "work.json").write_bytes(saved[:20])
    assert second.open("work").session == Session("work-2")
    assert (folder / "work.json").read_bytes() == saved[:20]


def test_a_session_that_is_closed_can_be_opened_by_another_shell(folder, saved):
    first = SessionStore(folder)
    first.open("work")
    first.open("other")
    assert SessionStore(folder).open("work").notes == ()


def test_a_new_session_does_not_take_the_place_of_one_that_is_kept(folder, saved):
    assert SessionStore(folder).start("work").session == Session("work-2")
    assert (folder / "work.json").read_bytes() == saved


# ---- where they are ----------------------------------------------------------------------------


def test_folders_follow_xdg(monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    monkeypatch.setenv("XDG_STATE_HOME", "relative")  # as if it was not set
    monkeypatch.setenv("HOME", "/home/me")
    assert sessions_folder() == Path("/data/entrenar/sessions")
    assert state_folder() == Path("/home/me/.local/state/entrenar")


def test_without_a_home_a_session_is_not_kept_and_one_note_says_so(monkeypatch):
    for name in ("HOME", "XDG_DATA_HOME", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert sessions_folder() is None
    assert state_folder() is None
    store = SessionStore(sessions_folder())
    opened = store.open("work")
    assert opened.session == Session("work")
    assert len(opened.notes) == 1
    assert not store.save(opened.session)
    assert store.sessions() == []


# ---- what can be done with them ----------------------------------------------------------------


def test_sessions_are_listed_with_what_is_wrong_with_them(folder, saved):
    (folder / "newer.json").write_bytes(saved.replace(b"session/1", b"session/2"))
    os.utime(folder / "newer.json", (1, 1))
    whole, newer = SessionStore(folder).sessions()
    assert (whole.name, whole.entries, whole.models, whole.problem) == ("work", 1, 1, None)
    assert whole.size == len(saved)
    assert (newer.name, newer.saved, newer.entries) == ("newer", 1.0, None)
    assert "version 2" in newer.problem
    assert SessionStore(folder).newest() == "work"


def test_a_session_goes_on_under_another_name(folder, saved):
    store = SessionStore(folder)
    session = store.open("work").session
    store.save_as(session, "better")
    assert (session.name, store.current) == ("better", "better")
    assert SessionStore(folder).open("work").notes == ()  # its lock is free
    assert SessionStore(folder).open("better").session.name == "better-2"


def test_a_session_does_not_take_the_name_of_another(folder, saved):
    store = SessionStore(folder)
    session = store.open("new").session
    with pytest.raises(RefusedError, match="work"):
        store.save_as(session, "work")
    assert (folder / "work.json").read_bytes() == saved


def test_a_session_is_deleted_unless_it_is_open(folder, saved):
    store, other = SessionStore(folder), SessionStore(folder)
    store.open("work")
    with pytest.raises(RefusedError):
        store.delete("work")
    with pytest.raises(CheckpointError):
        other.delete("work")
    store.close()
    other.delete("work")
    with pytest.raises(NotFoundError):
        other.delete("work")
    assert visible(folder) == []


def test_a_session_can_be_looked_at_while_it_is_open(folder, saved):
    SessionStore(folder).open("work")
    assert SessionStore(folder).peek("work") == sample()
    with pytest.raises(NotFoundError):
        SessionStore(folder).peek("none")


def test_a_damaged_session_stays_when_it_is_looked_at(folder, saved):
    (folder / "work.json").write_bytes(saved[:9])
    with pytest.raises(FormatError):
        SessionStore(folder).peek("work")
    assert visible(folder) == ["work.json"]
