"""Running a session again: where it writes, when it stops, what it finds."""

import sys
from pathlib import Path

import pytest

from entrenar_common.errors import RefusedError, UsageError
from entrenar_shell.replay import Finding, in_process, replay
from entrenar_shell.session import Entry, Session
from entrenar_shell.states import state_of
from worked_session import Driver

LINE = ("entrenar-distill", "export", "--input", "t", "--format", "apr", "--output")


class World:
    """A folder with what a session has written, and a tool that writes its output again."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.into = folder, folder / "again"
        self.session = Session("work")
        self.codes: dict[str, int] = {}
        self.content = b"weights"
        self.ran: list[list[str]] = []

    def write(self, name: str) -> Path:
        """A line that has written a file."""
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"weights")
        self._keep((*LINE, name), outputs=(state_of(path),))
        return path

    def look(self, name: str, code: int = 0) -> None:
        """A line that has read something."""
        self._keep(("entrenar-inspect", "info", name), code=code)

    def _keep(self, line: tuple[str, ...], code: int = 0, outputs=()) -> None:
        number = len(self.session.entries) + 1
        self.session.entries.append(
            Entry(number, "typed", (line,), str(self.folder), 0.0, 0.0, code, (), outputs)
        )

    def run(self, words: list[str], folder: str) -> int:
        assert folder == str(self.folder)
        self.ran.append(words)
        if "--output" in words:
            Path(words[-1]).write_bytes(self.content)
        return self.codes.get(words[-1], 0)

    def replay(self, check: bool = True):
        return replay(self.session, str(self.into), check=check, run=self.run)


@pytest.fixture
def world(tmp_path) -> World:
    (tmp_path / "work").mkdir()
    return World(tmp_path / "work")


def test_what_is_written_again_is_the_same(world):
    world.write("a.apr")
    world.look("a.apr")
    found = world.replay()
    assert (found.commands, found.compared, found.findings) == (2, 1, ())
    assert world.ran == [[*LINE, f"{world.into}/a.apr"],
                         ["entrenar-inspect", "info", f"{world.into}/a.apr"]]  # fmt: skip


def test_nothing_of_the_session_is_touched(world):
    paths = [world.write("a.apr"), world.write("made/b.apr")]
    before = [state_of(path) for path in paths]
    world.content = b"else"
    world.replay()
    assert [state_of(path) for path in paths] == before


def test_other_bytes_are_found(world):
    path = world.write("made/a.apr")
    world.content = b"weightz"
    found = world.replay()
    assert found.findings == (Finding(str(path), "other bytes"),)
    assert not found.is_same


def test_without_a_check_nothing_is_compared(world):
    world.write("a.apr")
    world.content = b"else"
    found = world.replay(check=False)
    assert (found.compared, found.findings) == (None, ())


def test_it_stops_at_the_first_line_that_ends_otherwise(world):
    world.look("one")
    world.look("two")
    world.look("three")
    world.codes["two"] = 14
    found = world.replay()
    assert found.findings == (Finding("entry 2", "ended with 14: entrenar-inspect info two"),)
    assert (found.commands, found.compared, len(world.ran)) == (2, None, 2)


def test_a_finding_may_be_found_again_or_not(world):
    world.look("one", code=1)
    world.look("two", code=1)
    world.codes["one"] = 1
    assert world.replay().findings == ()


def test_what_failed_is_not_run_again(world):
    world.look("one", code=14)
    found = world.replay()
    assert (found.commands, found.left_out, world.ran) == (0, 1, [])


@pytest.mark.parametrize(
    ("spoil", "what"),
    [
        (lambda path: path.unlink(), "is gone: what was written again has nothing to be compared "
         "with"),
        (lambda path: path.write_bytes(b"changed"), "has changed since the session wrote it: not "
         "compared"),
    ],
)  # fmt: skip
def test_a_recorded_output_that_is_no_longer_there_is_said(world, spoil, what):
    path = world.write("a.apr")
    world.write("b.apr")
    spoil(path)
    found = world.replay()
    assert found.findings == (Finding(str(path), what),)
    assert found.compared == 1


def test_what_is_not_written_again_is_said(world):
    path = world.write("a.apr")
    found = replay(world.session, str(world.into), check=True, run=lambda words, folder: 0)
    assert found.findings == (Finding(str(path), "was not written again"),)


def test_an_output_is_compared_as_the_last_command_left_it(world):
    world.write("a.apr")
    world.write("a.apr")
    assert world.replay().compared == 1


def test_an_input_that_changed_is_said(world):
    (world.folder / "t").write_bytes(b"read")
    state = state_of(world.folder / "t")
    line = ("entrenar-inspect", "info", "t")
    world.session.entries = [Entry(1, "x", (line,), str(world.folder), 0.0, 0.0, 0, (state,))]
    assert world.replay().findings == ()
    (world.folder / "t").write_bytes(b"longer")
    world.into = world.folder / "third"
    (finding,) = world.replay().findings
    assert finding == Finding(state.path, "has changed since it was read")


def test_files_of_a_folder_that_are_in_one_run_only_are_found(world):
    folder = world.folder / "out"
    folder.mkdir()
    (folder / "a").write_bytes(b"1")
    world._keep((*LINE, "out"), outputs=(state_of(folder),))

    def run(words: list[str], _folder: str) -> int:
        Path(words[-1]).mkdir()
        Path(words[-1], "b").write_bytes(b"1")
        return 0

    found = replay(world.session, str(world.into), check=True, run=run)
    assert found.findings == (
        Finding(str(folder / "a"), "was not written again"),
        Finding(str(folder / "b"), "was written this time only"),
    )


def test_a_folder_that_is_not_empty_is_refused(world):
    world.into.mkdir()
    (world.into / "mine").touch()
    world.look("one")
    with pytest.raises(RefusedError):
        world.replay()
    assert world.ran == []


def test_only_the_tools_can_be_run(tmp_path):
    with pytest.raises(UsageError, match="no such tool"):
        in_process([sys.executable, "-c", "pass"], str(tmp_path))


@pytest.mark.tier2
def test_a_line_is_a_process_that_ends_with_the_code_of_its_tool(tmp_path, capfd):
    driver = Driver(tmp_path)
    assert driver.run("entrenar-inspect info gone") == 14
    capfd.readouterr()
    assert in_process(["entrenar-inspect", "info", "gone"], str(tmp_path)) == 14
    printed = capfd.readouterr()
    assert printed.out == ""
    assert "error[E-NOTFOUND]" in printed.err
