import errno
import io
import json
import sys
from dataclasses import dataclass

import click
import pytest
from click.testing import CliRunner

from entrenar_common import errors
from entrenar_common.cli import (
    COUNT,
    DURATION,
    EXIT_FINDING,
    NAMES,
    SIZE,
    Group,
    Output,
    common_options,
    tool,
)


@dataclass
class Result:
    model: str
    memory: int
    loss: float


@tool("entrenar-x", version="1.2.3")
def x() -> None:
    """Do x."""


@x.command()
@click.argument("model")
@click.option("--memory", type=SIZE, default="16GB", help="Memory of the device.")
@common_options
def show(out: Output, model: str, memory: int) -> None:
    """Show a model."""
    out.note("reading")
    out.warn("old\nfile")
    out.detail("3 files")
    progress = out.progress()
    progress.start("read", 1)
    progress.advance()
    out.emit(Result(model, memory, float("nan")), schema="entrenar.x.show/1")


@x.command()
@click.argument("kind")
@common_options
def fail(out: Output, kind: str) -> None:
    """Fail."""
    out.progress().start("work", 2)
    raise FAILURES[kind]


@x.command()
@common_options
def find(out: Output) -> int:
    """Find something."""
    return EXIT_FINDING


@x.command()
@common_options
def twice(out: Output) -> None:
    """Emit two results."""
    out.emit(Result("a", 1, 1.0), "entrenar.x.twice/1")
    out.emit(Result("b", 1, 1.0), "entrenar.x.twice/1")


@x.command()
@click.argument("steps", type=COUNT)
@click.option("--limit", type=DURATION, default=90.0)
@common_options
def wait(out: Output, steps: int, limit: float) -> None:
    """Wait."""
    out.note(f"{steps} {limit}")


@x.command()
@click.option("--modules", type=NAMES, default=())
@common_options
def adapt(out: Output, modules: tuple[str, ...]) -> None:
    """Adapt."""
    out.note(repr(modules))


FAILURES = {
    name: getattr(errors, name)("what is wrong", hint="what to do")
    for name in errors.__all__
    if name != "EntrenarError"
} | {
    "full disk": OSError(errno.ENOSPC, "No space left on device", "/data/a.bin"),
    "memory": MemoryError("Unable to allocate 9 GiB"),
    "bug": KeyError("rank"),
    "stop": KeyboardInterrupt(),
    "pipe": BrokenPipeError(errno.EPIPE, "Broken pipe"),
}


@pytest.fixture
def run(monkeypatch):
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)

    def invoke(*args):
        return CliRunner().invoke(x, args)

    return invoke


def test_result_goes_to_standard_output_and_all_else_to_standard_error(run):
    result = run("show", "llama")
    assert result.stdout.splitlines() == [
        "model   llama",
        "memory  16000000000",
        "loss    nan",
    ]
    lines = result.stderr.splitlines()
    assert lines[:-1] == ["reading", r"warning: old\nfile", "read: started, 1 steps"]
    assert lines[-1].startswith("read: done, 1/1 in ")
    assert result.exit_code == 0


def test_json_is_one_document_with_schema_and_finite_numbers(run):
    result = run("show", "llama", "--json", "--memory", "1GiB")
    assert json.loads(result.stdout) == {
        "schema": "entrenar.x.show/1",
        "data": {"model": "llama", "memory": 2**30, "loss": None},
    }


def test_common_options_can_stand_before_the_command(run):
    assert run("--json", "-q", "show", "m").stdout == run("show", "m", "--json", "-q").stdout


def test_quiet_leaves_the_result_and_the_warnings(run):
    result = run("show", "llama", "-q")
    assert result.stderr == "warning: old\\nfile\n"
    assert result.stdout.startswith("model   llama\n")


def test_verbose_adds_details(run):
    assert "3 files\n" in run("show", "llama", "-v").stderr


def test_quiet_and_verbose_exclude_each_other(run):
    result = run("show", "llama", "-q", "-v")
    assert (result.exit_code, result.stderr.splitlines()[0]) == (
        2,
        "error[E-USAGE]: --quiet and --verbose exclude each other",
    )


@pytest.mark.parametrize("name", sorted(set(errors.__all__) - {"EntrenarError"}))
def test_each_error_ends_the_program_with_its_text_and_exit_code(run, name):
    error = getattr(errors, name)
    result = run("fail", name, "-q", "--json")
    assert result.exit_code == error.exit_code
    assert result.stdout == ""
    assert result.stderr == f"error[{error.code}]: what is wrong\nhint: what to do\n"


@pytest.mark.parametrize(
    ("kind", "code", "lines"),
    [
        (
            "full disk",
            21,
            [
                "error[E-STORAGE]: No space left on device: /data/a.bin",
                "hint: check the path, its permissions and the free space",
            ],
        ),
        (
            "memory",
            22,
            [
                "error[E-MEMORY]: out of memory: Unable to allocate 9 GiB",
                "hint: use a smaller batch or model, or end other programs",
            ],
        ),
        (
            "bug",
            70,
            [
                "error[E-INTERNAL]: KeyError: 'rank'",
                "hint: this is a bug in entrenar-x: report what --debug prints",
            ],
        ),
        ("stop", 130, []),
        ("pipe", 141, []),
    ],
)
def test_errors_of_python_end_the_program_in_the_same_form(run, kind, code, lines):
    result = run("fail", kind, "-q")
    assert (result.exit_code, result.stderr.splitlines()) == (code, lines)


def test_interruption_is_said_in_one_word(run):
    assert run("fail", "stop").stderr.splitlines()[-1] == "interrupted"


def test_progress_ends_before_the_error_is_printed(run):
    lines = run("fail", "ConfigError").stderr.splitlines()
    assert lines[0] == "work: started, 2 steps"
    assert lines[1].startswith("work: stopped, 0/2 in ")
    assert lines[2:] == ["error[E-CONFIG]: what is wrong", "hint: what to do"]


def test_debug_prints_the_traceback_before_the_error(run):
    lines = run("fail", "bug", "-q", "--debug").stderr.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert "KeyError: 'rank'" in lines
    assert lines[-2] == "error[E-INTERNAL]: KeyError: 'rank'"


def test_negative_finding_is_exit_code_1(run):
    assert run("find").exit_code == 1


def test_second_result_of_one_command_is_a_bug(run):
    assert run("twice").exit_code == 70


@pytest.mark.parametrize(
    ("args", "lines"),
    [
        (["shwo"], ["error[E-USAGE]: no such command 'shwo'", "hint: did you mean show?"]),
        (["zzzz"], ["error[E-USAGE]: no such command 'zzzz'", "hint: see 'entrenar-x --help'"]),
        (
            ["show", "m", "--memroy", "1GB"],
            ["error[E-USAGE]: no such option '--memroy'", "hint: did you mean --memory?"],
        ),
        (
            ["show"],
            ["error[E-USAGE]: missing argument 'MODEL'", "hint: see 'entrenar-x show --help'"],
        ),
        (
            ["show", "m", "--memory", "16G"],
            [
                "error[E-USAGE]: invalid value for '--memory': "
                "the size '16G' can be read in two ways",
                "hint: write 16GB (powers of 1000) or 16GiB (powers of 1024)",
            ],
        ),
        (
            ["show", "m", "n\x1b"],
            [
                r"error[E-USAGE]: got unexpected extra argument (n\x1b)",
                "hint: see 'entrenar-x show --help'",
            ],
        ),
    ],
)
def test_usage_errors_have_the_same_form_and_exit_code_2(run, args, lines):
    result = run(*args)
    assert (result.exit_code, result.stdout, result.stderr.splitlines()) == (2, "", lines)


def test_help_lists_own_options_before_common_ones(run):
    assert run("show", "--help").stdout.splitlines() == [
        "Usage: entrenar-x show [OPTIONS] MODEL",
        "",
        "  Show a model.",
        "",
        "Options:",
        "  --memory SIZE  Memory of the device.  [default: 16GB]",
        "",
        "Common options:",
        "  --json         Print the result as one JSON document.",
        "  -q, --quiet    Print no progress and no notes.",
        "  -v, --verbose  Print more about what is done.",
        "  --no-color     Print without colour; so does NO_COLOR=1.",
        "  --debug        Print the traceback of an error.",
        "  -h, --help     Show this message and exit.",
    ]


def test_a_command_that_was_called_without_its_tool_keeps_its_options():
    @tool("entrenar-y", version="1")
    def main() -> None:
        """Try."""

    @main.command()
    @common_options
    def show(out: Output) -> None:
        """Show nothing."""

    assert show.main([], standalone_mode=False) == 0
    assert "-h, --help" in CliRunner().invoke(main, ["show", "-h"]).stdout


def test_version_is_named_after_the_tool(run):
    assert run("--version").stdout == "entrenar-x 1.2.3\n"


def test_tool_without_a_command_prints_its_help_to_standard_error(run):
    result = run()
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("Usage: entrenar-x [OPTIONS] COMMAND [ARGS]...\n")


def test_quantities_are_read_with_units_and_defaults_stay(run):
    assert run("wait", "4k").stderr == "4000 90.0\n"
    assert run("wait", "4k", "--limit", "1h30m").stderr == "4000 5400.0\n"


def test_main_returns_the_exit_code_when_it_does_not_end_the_program(capsys):
    assert x.main(["find"], standalone_mode=False) == 1


def test_groups_in_a_group_are_groups_of_ours():
    @x.group(name="nested")
    def nested() -> None:
        """Nest."""

    del x.commands["nested"]
    assert isinstance(nested, Group)


class FullDisk(io.StringIO):
    """A stream that cannot be flushed, as when it goes to a file on a full disk."""

    def flush(self) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")


def test_output_that_cannot_be_written_is_a_storage_error(monkeypatch, capsys):
    monkeypatch.setattr("sys.stdout", FullDisk())
    assert x.main(["show", "m", "-q"], standalone_mode=False) == 21
    assert "error[E-STORAGE]: No space left on device" in capsys.readouterr().err


def test_names_are_separated_by_commas(run):
    assert run("adapt", "--modules", "q_proj, v_proj").stderr == "('q_proj', 'v_proj')\n"
    assert run("adapt").stderr == "()\n"


def test_an_empty_name_is_refused(run):
    result = run("adapt", "--modules", "a,,b")
    assert result.exit_code == 2
    assert "'a,,b' has an empty name" in result.stderr


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("stream", "shown"), [(io.StringIO, "red \x1b[2J\nfox\n"), (Terminal, "red \\x1b[2J\nfox\n")]
)
def test_pieces_are_the_result_and_steer_no_terminal(stream, shown, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("sys.stdout", stream())
    out = Output()
    for text in ("red ", "\x1b[2J\n", "fox"):
        out.piece(text)
    out.emit(Result("not shown again", 1, 0.5), schema="entrenar.x.show/1")
    assert sys.stdout.getvalue() == shown


def test_as_json_there_are_no_pieces(capsys):
    out = Output(json=True)
    out.piece("red ")
    out.emit(Result("m", 1, 0.5), schema="entrenar.x.show/1")
    assert json.loads(capsys.readouterr().out)["data"]["model"] == "m"
