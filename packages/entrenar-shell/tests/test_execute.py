"""Lines carried out in a session: what is asked, printed elsewhere, noted, and survived."""

import os
import signal
import threading

import click
import pytest

from entrenar_common.errors import StorageError
from entrenar_common.output import Output
from entrenar_inspect import info_command
from entrenar_shell import streams
from entrenar_shell.execute import Workbench
from entrenar_shell.manner import Manner
from entrenar_shell.session import Session


@pytest.fixture
def bench(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return Workbench(Session("x"))


def codes(bench, *lines):
    return [bench.run(line) for line in lines]


def raising(monkeypatch, error):
    """Have `inspect info` raise it."""

    def callback(**_values):
        raise error

    monkeypatch.setattr(info_command.info, "callback", callback)


def test_every_line_with_words_gets_an_entry(bench, model):
    codes(bench, "load teacher as t", "", "# nothing", "inspect info", "frobnicate", "!true")
    found = [(e.number, e.line, e.code) for e in bench.session.entries]
    assert found == [
        (1, "load teacher as t", 0), (2, "inspect info", 0), (3, "frobnicate", 2), (4, "!true", 0)
    ]  # fmt: skip
    assert bench.session.entries[1].plain == (("entrenar-inspect", "info", str(model)),)


@pytest.mark.parametrize("line", ["!true HF_TOKEN=abc", "frobnicate --token abc"])
def test_a_line_with_a_secret_gets_none(bench, line):
    bench.run(line)
    assert bench.session.entries == []


def test_an_entry_says_what_was_read_and_written(bench, model, tmp_path):
    codes(bench, "load teacher as t", "convert t --output t.pth")
    entry = bench.session.entries[-1]
    assert [state.path for state in entry.inputs] == [str(model)]
    [written] = entry.outputs
    assert (written.path, written.size) == (
        str(tmp_path / "t.pth"), (tmp_path / "t.pth").stat().st_size
    )  # fmt: skip
    assert bench.run("inspect info _2") == 0


def test_what_is_printed_goes_to_a_file(bench, model, tmp_path, capsys):
    assert codes(bench, "load teacher as t", "models > list.txt", "models >> list.txt") == [0] * 3
    text = (tmp_path / "list.txt").read_text()
    assert text.count("Models") == 2
    assert "\x1b" not in text
    assert "Models" not in capsys.readouterr().out


def test_a_file_that_cannot_be_written_is_known_before_the_work(bench, model, monkeypatch):
    raising(monkeypatch, AssertionError("it was begun"))
    assert bench.run("inspect info teacher > nowhere/list.txt") == StorageError.exit_code


def test_a_line_that_is_none_leaves_the_file_as_it_was(bench, tmp_path):
    (tmp_path / "list.txt").write_text("before")
    bench.run("frobnicate > list.txt")
    assert (tmp_path / "list.txt").read_text() == "before"


def test_what_is_printed_is_read_by_a_program(bench, model, capfd):
    assert codes(bench, "load teacher as t", "models | tr a-z A-Z", "models | head -n 1") == [0] * 3
    printed = capfd.readouterr().out
    assert "ARCHITECTURE │ PARAMETERS" in printed
    assert printed.endswith("Models\n")


def test_a_reader_that_does_not_wait_is_no_error(bench, model, capfd):
    assert bench.run("inspect tensors teacher --csv | true") == 0
    assert capfd.readouterr().err == ""


def test_the_terminal_is_no_terminal_for_what_is_piped(bench, model, capfd, monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    bench.run("inspect info teacher | cat")
    assert "\x1b" not in capfd.readouterr().out


def test_ctrl_c_ends_the_line_and_not_the_session(bench, model, monkeypatch):
    with monkeypatch.context() as patch:
        raising(patch, KeyboardInterrupt())
        assert bench.run("inspect info teacher") == 130
    assert bench.run("inspect info teacher") == 0


def test_a_program_of_the_system_is_waited_for_after_ctrl_c(bench):
    timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    assert bench.run("!trap 'exit 9' INT; sleep 1; exit 5") == 5
    timer.join()


@pytest.mark.parametrize(
    ("raised", "code"), [(SystemExit(3), 3), (SystemExit("text"), 1), (SystemExit(None), 0)]
)
def test_a_command_that_ends_the_program_does_not(bench, model, monkeypatch, raised, code):
    raising(monkeypatch, raised)
    assert bench.run("inspect info teacher") == code


def test_a_bug_is_said_to_be_one(bench, model, monkeypatch, capsys):
    raising(monkeypatch, ZeroDivisionError("of nothing"))
    assert bench.run("inspect info teacher") == 70
    said = capsys.readouterr().err
    assert "ZeroDivisionError: of nothing" in said
    assert "--debug" in said
    assert "Traceback" not in said


def test_a_bug_of_the_shell_does_not_end_it(bench, monkeypatch, capsys):
    def broken(_words):
        raise KeyError("words")

    monkeypatch.setattr("entrenar_shell.registry.find", broken)
    assert bench.run("models") == 70
    assert "this is a bug in entrenar-shell" in capsys.readouterr().err


def test_debug_is_asked_of_every_command(model, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    raising(monkeypatch, ZeroDivisionError("of nothing"))
    Workbench(Session("x"), manner=Manner.of(Output(debug=True))).run("inspect info teacher")
    assert "Traceback" in capsys.readouterr().err


def test_a_loaded_model_that_is_gone_is_missed_by_name(bench, model, capsys):
    bench.run("load teacher as t")
    model.rename(model.with_name("elsewhere"))
    assert bench.run("inspect info") == 14
    said = capsys.readouterr().err
    assert "t was loaded from" in said
    assert "hint: put it back, or load it from elsewhere: load PATH as t" in said
    assert bench.run("models") == 0
    assert "is gone" in capsys.readouterr().out


def test_the_last_model_that_was_loaded_is_meant(bench, model, capsys):
    codes(bench, "load teacher as t", "load teacher as s", "load teacher as t", "inspect info")
    assert list(bench.session.models) == ["s", "t"]


@pytest.mark.parametrize("line", ["distill --help", "distill ?", "help distill", "distill -h"])
def test_help_is_that_of_the_shells_command(bench, capsys, line):
    assert bench.run(line) == 0
    assert capsys.readouterr().out.startswith("Usage: distill [OPTIONS]")


def test_help_lists_what_a_word_begins(bench, capsys):
    assert bench.run("help inspect") == 0
    assert "inspect stats" in capsys.readouterr().out


# ---- long work ---------------------------------------------------------------------------------


class Tool:
    """A tool that does nothing, and keeps what it was called with."""

    def __init__(self, monkeypatch, code=0):
        self.calls, self.code = [], code
        monkeypatch.setattr("entrenar_shell.execute.tool", lambda program: self)
        monkeypatch.setattr("entrenar_shell.entries.read_and_written", lambda plain: ([], []))

    def main(self, words, program, *, standalone_mode, out):
        assert not standalone_mode
        assert out.record is None
        self.calls.append(" ".join([program, *words]))
        return self.code


RUN = "entrenar-distill run --output distilled-model --set dataset.name=x"


@pytest.mark.parametrize("words", ["", " --dry-run"])
@pytest.mark.parametrize(
    ("answer", "calls"), [(True, [f"{RUN} --dry-run", RUN]), (False, [f"{RUN} --dry-run"])]
)
def test_the_plan_is_shown_and_agreed_to(bench, monkeypatch, words, answer, calls):
    questions, tool = [], Tool(monkeypatch)
    bench.asker = lambda question: bool(questions.append(question)) or answer
    assert bench.run(f"distill --data x{words}") == 0
    assert sorted(tool.calls[0].split()) == sorted(calls[0].split())
    assert tool.calls[1:] == calls[1:]
    assert questions == ["Proceed with training?"]
    assert [" ".join(line) for line in bench.session.entries[-1].plain] == tool.calls[-1:]


def test_a_plan_that_fails_is_not_asked_about(bench, monkeypatch):
    tool = Tool(monkeypatch, code=10)
    bench.asker = lambda question: pytest.fail(question)
    assert bench.run("distill --data x") == 10
    assert len(tool.calls) == 1


def test_work_without_a_plan_is_asked_about(bench, monkeypatch):
    tool = Tool(monkeypatch)
    bench.asker = lambda question: False
    assert bench.run("sweep training.seed=1,2") == 0
    assert tool.calls == []


def test_yes_is_not_asked_and_not_passed_on(bench, monkeypatch):
    tool = Tool(monkeypatch)
    bench.asker = lambda question: pytest.fail(question)
    assert bench.run("distill --data x --yes") == 0
    assert tool.calls == [RUN]


@pytest.mark.parametrize("yes", [True, False])
def test_a_plan_alone_is_shown_where_nobody_is(bench, monkeypatch, yes):
    tool = Tool(monkeypatch)
    bench.yes = yes
    assert bench.run("distill --dry-run --data x") == 0
    assert [call.count("--dry-run") for call in tool.calls] == [1]


def test_the_preference_to_be_asked_is_kept_in_the_session(bench, monkeypatch):
    tool = Tool(monkeypatch)
    assert codes(bench, "set yes on", "finetune --data x") == [0, 0]
    assert tool.calls == ["entrenar-distill train --output trained-model --set data.train=x"]


def test_a_job_is_started_with_the_plain_lines(bench, model, monkeypatch, capsys):
    started = []

    class Jobs:
        def start(self, line, *, plain, folder):
            started.append((line, plain, folder))
            return type("Job", (), {"number": 4})

    bench.jobs = Jobs()
    assert bench.run("inspect info teacher &") == 0
    assert started == [
        ("inspect info teacher &", [("entrenar-inspect", "info", "teacher")], os.getcwd())
    ]
    assert "job 4 started" in capsys.readouterr().err
    assert bench.session.entries == []


def test_interrupts_while_waiting_are_the_programs(monkeypatch):
    waits = [KeyboardInterrupt(), -9]

    class Process:
        def wait(self):
            found = waits.pop(0)
            if isinstance(found, BaseException):
                raise found
            return found

    assert streams._waited(Process()) == 137


def test_own_commands_find_their_workbench_only_in_a_line():
    from entrenar_shell.own import workbench

    with click.Context(click.Command("x")), pytest.raises(KeyError):
        workbench()
