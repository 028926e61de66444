"""A session of thirty commands, whose script makes the same again."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from entrenar_common.text import escape_controls
from entrenar_core.io.os_calls import os_calls
from entrenar_shell.export import export
from entrenar_shell.replay import replay
from entrenar_shell.sameness import Paths, difference
from entrenar_shell.states import files_in
from entrenar_shell.tools import TOOLS
from worked_session import Driver, make_world, run_here, thirty

pytestmark = pytest.mark.tier3

EXACT = {".safetensors", ".gguf", ".apr", ".pth"}


@pytest.fixture(scope="module")
def worked(tmp_path_factory) -> Driver:
    """The session, after its work."""
    folder = make_world(tmp_path_factory.mktemp("it's work") / "world")
    (folder / "made").mkdir()
    driver = Driver(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os_calls, "fsync", lambda fd: None)
        for line, reads, writes, code in thirty():
            assert driver.run(line, reads, writes) == code, line
    driver.own("models")
    return driver


@pytest.fixture(scope="module")
def again(worked, tmp_path_factory) -> Path:
    """The folder that the session's script was run in."""
    bin_folder, folder = (tmp_path_factory.mktemp(name) for name in ("bin", "fresh place"))
    for program in TOOLS:
        module = program.replace("-", "_")
        script = f"#!{sys.executable}\nfrom {module}.cli import main\nmain()\n"
        (bin_folder / program).write_text(script)
        (bin_folder / program).chmod(0o755)
    found = export(worked.session, str(bin_folder / "work.sh"))
    assert (found.commands, found.left_out, found.changed) == (28, 2, ())
    path = f"{bin_folder}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", bin_folder / "work.sh"], cwd=folder, env={**os.environ, "PATH": path},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, escape_controls(done.stderr)
    return folder


def outputs(driver: Driver) -> list[Path]:
    paths = {Path(state.path) for entry in driver.session.entries for state in entry.outputs}
    return sorted(paths)


def test_the_script_writes_the_files_of_the_session_and_no_others(worked, again):
    written = [
        f for path in outputs(worked) for f in ([path] if path.is_file() else files_in(path))
    ]
    assert {file.relative_to(worked.folder) for file in written} == {
        file.relative_to(again) for file in files_in(again)
    }


def test_the_script_makes_weights_adapters_and_exported_models_byte_for_byte(worked, again):
    exact = [file.relative_to(again) for file in files_in(again) if file.suffix in EXACT]
    assert {file.suffix for file in exact} == EXACT
    exact += [path.relative_to(again) for path in again.rglob("tokenizer.json")]
    exact += [Path("a.json"), Path("tuned/adapter/adapter_config.json")]
    for name in exact:
        assert (again / name).read_bytes() == (worked.folder / name).read_bytes(), name


def test_the_script_makes_the_same_reports_apart_from_timings(worked, again):
    moved = {str(again / path.relative_to(worked.folder)): path for path in outputs(worked)}
    paths = Paths(
        {new: [str(old), str(old.relative_to(worked.folder))] for new, old in moved.items()}
    )
    for file in files_in(again):
        old = worked.folder / file.relative_to(again)
        assert difference(old, file, paths) is None, file


def test_a_replay_finds_nothing_but_what_was_changed(worked, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(os_calls, "fsync", lambda fd: None)
    session = worked.session
    found = replay(session, str(tmp_path / "one"), check=True, run=run_here)
    assert found.findings == ()
    assert found.commands == 28
    wrong = shutil.copyfile  # a tool that does its work otherwise than it did

    def run(words: list[str], folder: str) -> int:
        code = run_here(words, folder)
        if words[-1].endswith("s.apr"):
            wrong(tmp_path / "one" / "made" / "s.safetensors", words[-1])
        return code

    session = type(session)("short", entries=session.entries[5:12])
    found = replay(session, str(tmp_path / "two"), check=True, run=run)
    assert [finding.what for finding in found.findings] == ["other bytes"]
    assert found.findings[0].where.endswith("made/s.apr")
