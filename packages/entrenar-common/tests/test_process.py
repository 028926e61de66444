"""What only a process of its own can show: imports, the terminal, a pipe that closes."""

import os
import re
import subprocess
import sys

import pytest

from entrenar_common.errors import NotFoundError
from entrenar_common.testing import run_cli, run_cli_on_terminal

SOURCE = '''
import sys
from dataclasses import dataclass
from entrenar_common.cli import common_options, tool
from entrenar_common.tables import Table, Text

@tool("entrenar-try", version="0")
def main():
    """Try."""

@dataclass
class Numbers:
    count: int

    def __view__(self):
        rows = [[i, Text("yes", "good")] for i in range(self.count)]
        return [Table("Numbers", ["n", "ok"], rows)]

@main.command()
@common_options
def show(out):
    """Show."""
    progress = out.progress()
    progress.start("count", 2)
    progress.advance(2, loss=1.5)
    out.note("counted")
    out.emit(Numbers(2), "entrenar.try.show/1")

@dataclass
class Long:
    text: str

@main.command()
@common_options
def long(out):
    """Show more than a pipe holds."""
    out.emit(Long("x" * 1_000_000), "entrenar.try.long/1")

@main.command()
@common_options
def modules(out):
    """List what is imported."""
    sys.stdout.write(" ".join({name.split(".")[0] for name in sys.modules}))
'''

TABLE = """\
Numbers
╭───┬─────╮
│ n │ ok  │
├───┼─────┤
│ 0 │ yes │
│ 1 │ yes │
╰───┴─────╯
"""


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """The environment in which the tool of this file is an installed console script."""
    (tmp_path / "try_tool.py").write_text(SOURCE)
    info = tmp_path / "try_tool-0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Name: try_tool\nVersion: 0\n")
    (info / "entry_points.txt").write_text("[console_scripts]\nentrenar-try = try_tool:main\n")
    monkeypatch.syspath_prepend(tmp_path)
    return {"PYTHONPATH": str(tmp_path)}


@pytest.mark.tier2
def test_piped_run_prints_no_escape_sequence(installed):
    result = run_cli(["entrenar-try", "show"], env=installed)
    assert result.stdout == TABLE
    assert re.sub(r"in \S+,", "in 0s,", result.stderr) == (
        "count: started, 2 steps\ncounted\ncount: done, 2/2 in 0s, loss 1.500\n"
    )
    assert result.returncode == 0


@pytest.mark.tier2
def test_run_on_a_terminal_shows_a_bar_and_colour(installed):
    shown = run_cli_on_terminal(["entrenar-try", "show"], env=installed).stdout
    assert "━" in shown
    assert "\x1b[32myes\x1b[0m" in shown


@pytest.mark.tier2
def test_run_on_a_terminal_without_colour_sets_no_style(installed):
    shown = run_cli_on_terminal(["entrenar-try", "show", "--no-color"], env=installed).stdout
    assert shown.endswith(TABLE)
    assert not re.search(r"\x1b\[[0-9;]*m", shown)


def test_pipe_closed_by_its_reader_ends_the_run_quietly(installed):
    code = "from try_tool import main; main()"
    with subprocess.Popen(
        [sys.executable, "-c", code, "long", "--json"],
        env=os.environ | installed | {"PYTHONUNBUFFERED": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        process.stdout.read(10)
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


def test_neither_rich_nor_numpy_is_imported_before_something_is_rendered(installed):
    imported = set(run_cli(["entrenar-try", "modules"], env=installed).stdout.split())
    assert "click" in imported
    assert not imported & {"rich", "numpy"}


def test_library_half_imports_only_the_standard_library():
    code = (
        "import sys; import entrenar_common.errors, entrenar_common.units, entrenar_common.text;"
        "print(*{name.split('.')[0] for name in sys.modules if not name.startswith('_')})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "entrenar_common" in done.stdout
    assert not set(done.stdout.split()) & {"click", "rich", "numpy"}


def test_tool_that_is_not_installed_is_not_found():
    with pytest.raises(NotFoundError, match="'entrenar-nothing'"):
        run_cli(["entrenar-nothing"])


def test_a_command_does_not_end_with_a_search_for_garbage():
    code = (
        "import atexit, gc; atexit.register(lambda: print(gc.get_freeze_count()));"
        "import entrenar_common.cli"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) > 1000
