"""The commands about sessions, as they are typed."""

import json
from dataclasses import dataclass
from pathlib import Path

import click
import pytest

from drawn_sessions import sample
from entrenar_common.testing import CliResult
from entrenar_core.io.os_calls import os_calls
from entrenar_shell.own import WORKBENCH
from entrenar_shell.own_session import COMMANDS
from entrenar_shell.session import Entry, Session
from entrenar_shell.store import SessionStore


@dataclass
class Holder:
    """A session and where sessions are kept."""

    session: Session
    store: SessionStore


@pytest.fixture
def holder(tmp_path, monkeypatch) -> Holder:
    monkeypatch.setattr(os_calls, "fsync", lambda fd: None)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    store = SessionStore(tmp_path / "sessions")
    store.open("work")
    return Holder(sample(), store)


@pytest.fixture
def typed(holder, capsys):
    """Runs `session WORDS`."""

    def run(*words: str) -> CliResult:
        found = next(c for c in COMMANDS if c.path == ("session", words[0]))
        grammar = found.grammar()
        with click.Context(grammar) as parent:
            parent.meta[WORKBENCH] = holder
            code = grammar.main(
                list(words[1:]), prog_name=" ".join(found.path), standalone_mode=False,
                parent=parent,
            )  # fmt: skip
        printed = capsys.readouterr()
        return CliResult(printed.out, printed.err, code)

    return run


def test_save_writes_the_session(typed, holder, tmp_path):
    done = typed("save")
    assert done.returncode == 0, done.stderr
    assert SessionStore(tmp_path / "sessions").peek("work") == sample()


def test_save_under_a_name_goes_on_with_it(typed, holder):
    assert typed("save", "better").returncode == 0
    assert holder.session.name == "better"
    assert typed("save", "better").returncode == 0
    done = typed("save", "../x")
    assert (done.returncode, holder.session.name) == (2, "better")


def test_save_says_that_a_session_is_not_kept(typed, holder):
    holder.store = SessionStore(None)
    done = typed("save")
    assert done.returncode == 21
    assert "hint:" in done.stderr
    assert typed("save", "name").returncode == 21


def test_load_saves_the_open_session_and_goes_on_with_another(typed, holder):
    typed("save", "one")
    holder.session.settings = {"a": "b"}
    typed("save", "two")
    assert typed("load", "one").returncode == 0
    assert (holder.session.name, holder.session.settings) == ("one", sample().settings)
    holder.session.settings = {"c": "d"}
    typed("load", "two")
    typed("load", "one")
    assert holder.session.settings == {"c": "d"}


def test_load_of_what_is_not_there_keeps_the_session(typed, holder):
    done = typed("load", "none")
    assert done.returncode == 14
    assert holder.session == sample()


def test_load_of_one_that_is_open_elsewhere_is_a_copy_and_warns(typed, holder, tmp_path):
    other = SessionStore(tmp_path / "sessions")
    other.save_as(sample(), "busy")
    done = typed("load", "busy")
    assert holder.session.name == "busy-2"
    assert done.stderr.startswith("warning: session busy is open in another shell")


def test_load_of_a_newer_session_ends_with_15(typed, holder, tmp_path):
    typed("save")
    path = tmp_path / "sessions" / "work.json"
    newer = path.read_bytes().replace(b"session/1", b"session/2")
    path.with_name("newer.json").write_bytes(newer)
    assert typed("load", "newer").returncode == 15
    assert path.with_name("newer.json").read_bytes() == newer
    assert holder.session == sample()


def test_list_has_each_session(typed):
    typed("save", "one")
    typed("save", "two")
    data = json.loads(typed("list", "--json").stdout)
    assert data["schema"] == "entrenar.shell.session-list/1"
    assert {kept["name"] for kept in data["data"]["sessions"]} == {"one", "two"}
    assert "two" in typed("list").stdout


def test_list_without_sessions_says_so(typed):
    assert "No session" in typed("list").stdout


def test_delete_removes_one_that_is_not_open(typed, holder, tmp_path):
    typed("save", "one")
    typed("save", "two")
    assert typed("delete", "one").returncode == 0
    assert typed("delete", "two").returncode == 12
    assert [kept.name for kept in holder.store.sessions()] == ["two"]


def test_export_writes_the_script_and_warns_of_other_inputs(typed, holder):
    done = typed("export", "work.sh", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["data"]["commands"] == 1
    warning = "warning: /a/t: is not what the session has read; the script checks what it is now"
    assert warning in done.stderr.splitlines()
    assert typed("export", "work.sh").returncode == 12
    assert typed("export", "work.sh", "--force").returncode == 0
    assert typed("export", "work.txt").returncode == 2


def test_export_of_a_kept_session_leaves_the_open_one(typed, holder):
    typed("save", "one")
    holder.session.entries = []
    typed("save", "two")
    assert json.loads(typed("export", "w.py", "--session", "one", "--json").stdout)["data"][
        "commands"
    ] == 1  # fmt: skip
    assert holder.session.name == "two"


def test_replay_writes_to_a_new_folder_and_ends_with_1_for_a_finding(typed, holder):
    line = ("entrenar-inspect", "info", "gone")
    here = str(Path.cwd())
    holder.session.entries = [Entry(1, "info gone", (line,), here, 0.0, 0.0, 0)]
    for folder in ("work-replay", "work-replay-2"):
        done = typed("replay", "--check", "--json")
        assert done.returncode == 1
        data = json.loads(done.stdout)["data"]
        assert data["folder"] == f"{here}/{folder}"
        assert data["findings"][0]["where"] == "entry 1"


def test_replay_of_nothing_is_the_same(typed, holder):
    holder.session.entries = []
    done = typed("replay", "--check", "--into", "x")
    assert done.returncode == 0
    assert "all the same" in done.stdout
