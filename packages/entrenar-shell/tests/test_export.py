"""A session as a script: what bash and Python make of it."""

import subprocess
import sys
from pathlib import Path

import pytest

from entrenar_common.errors import RefusedError, StorageError, UsageError
from entrenar_core.io.faults import inject
from entrenar_shell.export import export
from entrenar_shell.session import Entry, Session
from entrenar_shell.states import state_of
from worked_session import Driver

ODD = ["plain", "it's", 'a "b"', "$HOME", "`id`", "a b", "-x", "#no", "ü", "a\nb", "*", "{0}", "\\"]
"""Names that a shell would make something else of."""

TOOL = """#!/bin/sh
{ printf '%s\\0' "${0##*/}" "$PWD" "$@"; printf '\\1'; } >> "$SEEN"
for word; do
    [ "$word" = --fail ] && exit 1
done
exit 0
"""


def calls_in(seen: Path) -> list[list[str]]:
    """The program, folder and words of each call of a tool."""
    data = seen.read_bytes().decode(errors="surrogateescape") if seen.exists() else ""
    return [call.split("\0")[:-1] for call in data.split("\1")[:-1]]


@pytest.fixture
def bin_folder(tmp_path) -> Path:
    """Programs that keep what they are called with."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("entrenar-inspect", "entrenar-distill", "entrenar-lora"):
        (folder / name).write_text(TOOL)
        (folder / name).chmod(0o755)
    return folder


@pytest.fixture
def execute(tmp_path, bin_folder):
    """Runs a script in a new folder; gives its process and the calls of the tools."""

    def run(script: Path, *words: str):
        seen, new = tmp_path / "seen", tmp_path / "new place"
        new.mkdir()
        path = f"{bin_folder}:{Path(sys.executable).parent}:/usr/bin:/bin"
        done = subprocess.run(
            [str(script), *words], cwd=new, env={"PATH": path, "SEEN": str(seen)},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        return done, calls_in(seen)

    return run


def made(folder: Path, *lines: tuple[str, ...], code: int = 0, inputs=()) -> Session:
    """A session of lines that were run in the folder."""
    states = tuple(state_of(path) for path in inputs)
    entries = [
        Entry(i, f"typed {i}", (line,), str(folder), 0.0, 0.0, code, states)
        for i, line in enumerate(lines, 1)
    ]
    return Session("work", entries=entries)


def export_line(name: str) -> tuple[str, ...]:
    return ("entrenar-distill", "export", "--input", "t", "--format", "apr", "--output", name)


SUFFIXES = pytest.mark.parametrize("suffix", [".sh", ".py"])


@SUFFIXES
def test_tools_are_called_with_the_words_of_the_session(tmp_path, execute, suffix):
    lines = [("entrenar-inspect", "info", name) for name in ODD]
    export(made(tmp_path, *lines), str(tmp_path / f"w{suffix}"))
    done, calls = execute(tmp_path / f"w{suffix}")
    assert done.returncode == 0, done.stderr
    assert calls == [["entrenar-inspect", str(tmp_path), "info", name] for name in ODD]


@SUFFIXES
@pytest.mark.parametrize("given", [True, False])
def test_outputs_go_below_the_folder_that_is_given_or_where_it_runs(
    tmp_path, execute, suffix, given
):
    lines = [export_line(f"made/{name}") for name in ODD if name != "*"]
    lines += [("entrenar-inspect", "info", f"made/{name}") for name in ODD if name != "*"]
    export(made(tmp_path, *lines), str(tmp_path / f"w{suffix}"))
    root = tmp_path / "it's a root"
    root.mkdir()
    done, calls = execute(tmp_path / f"w{suffix}", *([str(root)] if given else []))
    assert done.returncode == 0, done.stderr
    at = root if given else tmp_path / "new place"
    names = [line[-1].removeprefix("made/") for line in lines]
    assert [call[-1] for call in calls] == [f"{at}/{name}" for name in names]


@SUFFIXES
def test_a_file_that_changed_is_said_and_nothing_is_run(tmp_path, execute, suffix):
    (tmp_path / "t").write_text("read")
    (tmp_path / "gone").write_text("read")
    line = ("entrenar-inspect", "info", "t")
    inputs = [tmp_path / "t", tmp_path / "gone"]
    export(made(tmp_path, line, inputs=inputs), str(tmp_path / f"w{suffix}"))
    (tmp_path / "t").write_text("else")
    (tmp_path / "gone").unlink()
    done, calls = execute(tmp_path / f"w{suffix}")
    assert done.returncode == 13
    assert calls == []
    assert str(tmp_path / "t") in done.stderr
    assert str(tmp_path / "gone") in done.stderr


@SUFFIXES
def test_files_of_a_folder_that_was_read_are_checked(tmp_path, execute, suffix):
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "it's").write_text("read")
    line = ("entrenar-inspect", "info", "t")
    found = export(made(tmp_path, line, inputs=[tmp_path / "t"]), str(tmp_path / f"w{suffix}"))
    assert found.inputs == 1
    done, calls = execute(tmp_path / f"w{suffix}")
    assert (done.returncode, len(calls)) == (0, 1), done.stderr


@SUFFIXES
def test_a_script_stops_at_a_failure(tmp_path, execute, suffix):
    lines = [("entrenar-inspect", "info", "--fail"), ("entrenar-inspect", "info", "t")]
    export(made(tmp_path, *lines), str(tmp_path / f"w{suffix}"))
    done, calls = execute(tmp_path / f"w{suffix}")
    assert (done.returncode, len(calls)) == (1, 1)


@SUFFIXES
def test_a_finding_that_was_found_before_does_not_stop_it(tmp_path, execute, suffix):
    lines = [("entrenar-inspect", "info", "--fail"), ("entrenar-inspect", "info", "t")]
    export(made(tmp_path, *lines, code=1), str(tmp_path / f"w{suffix}"))
    done, calls = execute(tmp_path / f"w{suffix}")
    assert (done.returncode, len(calls)) == (0, 2), done.stderr


@SUFFIXES
def test_failures_and_own_commands_are_comments(tmp_path, execute, suffix):
    session = made(tmp_path, ("entrenar-inspect", "info", "a\nrm"), code=14)
    session.entries.append(Entry(2, "models\nrm -r x", (), str(tmp_path), 0.0, 0.0, 0))
    found = export(session, str(tmp_path / f"w{suffix}"))
    assert (found.commands, found.left_out) == (0, 1)
    text = (tmp_path / f"w{suffix}").read_text()
    assert "\n# left out, it ended with 14: entrenar-inspect info 'a\\nrm'\n" in text
    assert "\n# 2: models\\nrm -r x\n" in text
    done, calls = execute(tmp_path / f"w{suffix}")
    assert (done.returncode, calls) == (0, []), done.stderr


def test_an_input_that_changed_since_it_was_read_is_said(tmp_path):
    (tmp_path / "t").write_text("read")
    session = made(tmp_path, ("entrenar-inspect", "info", "t"), inputs=[tmp_path / "t"])
    (tmp_path / "t").write_text("longer")
    found = export(session, str(tmp_path / "w.sh"))
    assert found.changed == (str(tmp_path / "t"),)
    assert "# changed after the session had read it" in (tmp_path / "w.sh").read_text()
    (tmp_path / "t").unlink()
    gone = export(session, str(tmp_path / "gone.sh"))
    assert (gone.inputs, gone.changed) == (0, (str(tmp_path / "t"),))
    assert (
        f"# not there any more, when this was written: {tmp_path}/t"
        in (tmp_path / "gone.sh").read_text()
    )


@SUFFIXES
def test_a_script_can_be_executed_and_is_the_same_each_time(tmp_path, suffix):
    (tmp_path / "t").write_text("read")
    session = made(tmp_path, export_line("a.apr"), inputs=[tmp_path / "t"])
    for name in ("one", "two"):
        export(session, str(tmp_path / f"{name}{suffix}"))
    one, two = tmp_path / f"one{suffix}", tmp_path / f"two{suffix}"
    assert one.read_bytes() == two.read_bytes()
    assert one.stat().st_mode & 0o100


def test_a_name_that_is_not_unicode_reaches_the_tool(tmp_path, bin_folder, execute):
    name = b"\xe9t\xe9".decode(errors="surrogateescape")
    for suffix in (".sh", ".py"):
        export(made(tmp_path, ("entrenar-inspect", "info", name)), str(tmp_path / f"w{suffix}"))
    _, calls = execute(tmp_path / "w.sh")
    subprocess.run(
        [sys.executable, tmp_path / "w.py"],
        env={"PATH": str(bin_folder), "SEEN": str(tmp_path / "seen")},
        check=True,
    )
    assert [call[-1] for call in calls_in(tmp_path / "seen")] == [name, name]
    assert calls[0][-1] == name


def test_a_script_does_not_take_the_place_of_a_file(tmp_path):
    (tmp_path / "w.sh").write_text("mine")
    with pytest.raises(RefusedError):
        export(Session("s"), str(tmp_path / "w.sh"))
    assert (tmp_path / "w.sh").read_text() == "mine"
    export(Session("s"), str(tmp_path / "w.sh"), replace=True)
    assert (tmp_path / "w.sh").read_text().startswith("#!")


@pytest.mark.parametrize("name", ["w", "w.txt", "w.SH", ".sh"])
def test_another_suffix_is_refused(tmp_path, name):
    with pytest.raises(UsageError) as raised:
        export(Session("s"), str(tmp_path / name))
    assert raised.value.hint
    assert not (tmp_path / name).exists()


def test_a_full_disk_leaves_no_half_of_a_script(tmp_path):
    with inject(2, errno=28), pytest.raises(StorageError):
        export(Session("s"), str(tmp_path / "w.sh"))
    assert list(tmp_path.iterdir()) == []


def test_the_driver_of_these_tests_records_what_a_tool_does(tmp_path, capsys):
    driver = Driver(tmp_path)
    assert driver.run("entrenar-inspect info gone") == 14
    assert driver.session.entries[0].plain == (("entrenar-inspect", "info", "gone"),)
