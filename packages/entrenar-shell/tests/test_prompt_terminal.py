"""The prompt as a person meets it: on a real terminal, whose screen is read."""

import os
import signal
import time
from pathlib import Path

import pytest

import prompt_bench
from terminal import CTRL_C, CTRL_D, CTRL_L, CTRL_R, ENTER, PYTHON, UP, Terminal, environment

pytestmark = pytest.mark.tier2

GREETING = [
    "Entrenar Shell v0.1.0 - Interactive Distillation Environment",
    "Type 'help' for commands, 'quit' to exit.",
]
HISTORY = ".local/state/entrenar/shell_history"
QUOTED = "say 'one\ntwo'"


def shell(home: Path, *, columns: int = 80, **env: str) -> Terminal:
    words = [PYTHON, prompt_bench.__file__]
    return Terminal(words, env=environment(home, **env), cwd=home, columns=columns)


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    """A shell that tests follow each other in."""
    with shell(tmp_path_factory.mktemp("home")) as terminal:
        terminal.until("session here")
        yield terminal


@pytest.fixture
def here(one):
    """The same with nothing typed and an empty screen."""
    one.settle()  # between two prompts, Ctrl-C would be for what runs there
    one.type(CTRL_C)
    one.settle()
    one.type(CTRL_L)
    one.until(lambda: one.lines[0] == "entrenar>" and "session here" in one.lines[-1])
    return one


@pytest.fixture
def home(tmp_path):
    return tmp_path


# ---- what is shown -------------------------------------------------------------------------------


@pytest.mark.parametrize("columns", [80, 200])
def test_it_greets_and_waits(home, columns):
    with shell(home, columns=columns) as terminal:
        terminal.until("session here")
        assert terminal.lines[:3] == [*GREETING, "entrenar>"]
        terminal.until(lambda: terminal.lines[-2] != "")
        assert terminal.lines[-2:] == [
            "help lists the commands, Tab completes what is typed",
            "session here | no models",
        ]
        assert not any(terminal.lines[3:-2])


def test_what_may_follow_is_in_a_menu_while_typing(here):
    here.type("unl")
    here.until("Forget a model's name")
    assert here.lines[:2] == [
        "entrenar> unl",
        "              unload  Forget a model's name.",
    ]


def test_the_hint_for_what_is_typed_is_in_the_toolbar(here):
    here.type("unload ")
    here.until(lambda: here.lines[-2].startswith("unload"))
    assert "NAME" in here.lines[-2]


def test_what_is_typed_is_coloured(here):
    here.type("models --json 'a b'")
    here.until("'a b'")
    assert here.style("models") == ("default", True, False)
    assert here.style("--json")[0] == "cyan"
    assert here.style("'a b'")[0] == "green"


def test_another_size_of_the_window_draws_the_prompt_again(home):
    with shell(home) as terminal:
        terminal.until("session here")
        terminal.type("models")
        terminal.until("entrenar> models")
        terminal.resize(50, 10)
        terminal.until(lambda: terminal.lines[0] == "entrenar> models")
        terminal.until(lambda: len(terminal.lines) == 10 and "session here" in terminal.lines[-1])


def test_without_colour_none_is_written(home):
    with shell(home, NO_COLOR="1") as terminal:
        terminal.until("session here")
        terminal.type("models --json 'a b'")
        terminal.until("'a b'")
        assert terminal.style("--json")[0] == "default"
        assert terminal.style("'a b'")[0] == "default"


def test_a_terminal_that_cannot_move_its_cursor_has_a_plain_prompt(home):
    with shell(home, TERM="dumb") as terminal:
        terminal.until("entrenar>")
        terminal.enter("models")
        terminal.until("ran 'models'")
        assert "\x1b" not in terminal.seen
        terminal.type(CTRL_D)
        assert terminal.end() == 0
    assert "+models\n" in (home / HISTORY).read_text()


# ---- keys ----------------------------------------------------------------------------------------


def test_ctrl_c_throws_away_what_is_typed(here):
    here.type("models" + CTRL_C)
    here.enter("other")
    here.until("ran 'other'")
    assert "ran 'models'" not in here.text


def test_ctrl_c_ends_what_runs_and_the_session_goes_on(here):
    here.enter("sleep")
    here.until("asleep")
    here.type(CTRL_C)
    here.until("woken")
    here.enter("after")
    here.until("ran 'after'")


def test_ctrl_d_leaves_on_an_empty_line_only(home):
    with shell(home) as terminal:
        terminal.until("session here")
        terminal.enter("models" + CTRL_D)
        # What is typed before the next prompt, the terminal itself makes something of.
        terminal.until(lambda: terminal.text.count("entrenar>") == 2)
        terminal.type(CTRL_D)
        assert terminal.end() == 0


def test_an_open_quote_goes_on_in_the_next_line(here):
    here.enter("say 'one")
    here.until(lambda: here.lines[1].strip() == "...")
    here.enter("two'")
    here.until(f"ran {QUOTED!r}")


def test_pasted_lines_wait_for_enter_and_run_one_after_the_other(here):
    here.paste("first\nsecond\n\nthird")
    here.until("... third")
    here.settle()
    assert "ran" not in here.text
    here.type(ENTER)
    here.until("ran 'third'")
    assert [line for line in here.lines if line.startswith("ran")] == [
        "ran 'first'",
        "ran 'second'",
        "ran 'third'",
    ]


def test_what_was_pasted_after_a_line_that_fails_does_not_run(here):
    here.paste("first\nfail\nthird")
    here.type(ENTER)
    here.until("ran 'fail'")
    here.settle()
    assert "ran 'third'" not in here.text


def test_a_resumed_session_says_what_it_holds_in_the_prompt_and_below(home):
    with shell(home) as terminal:
        terminal.until("session here")
        terminal.enter("load teacher")
        terminal.enter("load student")
        terminal.until("entrenar [student]>")
        terminal.until("session here | models teacher, *student")


# ---- history -------------------------------------------------------------------------------------


def test_what_was_typed_can_be_recalled_in_the_next_shell(home):
    with shell(home) as terminal:
        terminal.until("session here")
        terminal.enter("models --json")
        terminal.enter("quit")
        assert terminal.end() == 0
    with shell(home) as terminal:
        terminal.until("session here")
        while "models --json" not in terminal.text:  # what was typed is read in a thread
            terminal.type(CTRL_C + CTRL_R + "mod")
            terminal.settle()
        terminal.type(ENTER)  # which ends the search
        terminal.until("entrenar> models --json")
        terminal.type(ENTER)
        terminal.until("ran 'models --json'")


def test_secrets_and_what_is_typed_with_the_history_off_are_not_kept(home):
    with shell(home) as terminal:
        terminal.until("session here")
        terminal.enter("fetch x --token hf_abcdefghijk")
        terminal.enter("set history")
        terminal.enter("hidden")
        terminal.until("ran 'hidden'")
        terminal.type(UP)
        terminal.until(lambda: terminal.lines[-3:] and "entrenar> set history" in terminal.text)
    assert "+set history\n" in (home / HISTORY).read_text()
    assert "hf_" not in (home / HISTORY).read_text()
    assert "hidden" not in (home / HISTORY).read_text()


def test_an_unwritable_history_is_one_warning(home):
    (home / "blocked").write_text("")
    with shell(home, ENTRENAR_HISTFILE=str(home / "blocked" / "history")) as terminal:
        terminal.until("session here")
        terminal.enter("first")
        terminal.until("ran 'first'")
        terminal.enter("second")
        terminal.until("ran 'second'")
        assert terminal.text.count("the history is not kept") == 1
        terminal.type(UP + UP)
        terminal.until(lambda: terminal.lines[-3:] and "entrenar> first" in terminal.text)


# ---- jobs ----------------------------------------------------------------------------------------


def test_a_job_is_followed_below_and_its_end_told_above_what_is_typed(home):
    with shell(home) as terminal:
        terminal.until("session here")
        fifo = home / "lines"
        os.mkfifo(fifo)
        terminal.enter("start lines")
        with fifo.open("w") as lines:
            lines.write("step 1 of 2\n")
            lines.flush()
            terminal.until(lambda: terminal.lines[-1].endswith("| job 1 start: step 1 of 2"))
            terminal.type("mod")
            lines.write("step 2 of 2\n")
            lines.flush()
            terminal.until(lambda: terminal.lines[-1].endswith("| job 1 start: step 2 of 2"))
        terminal.until("job 1 is done: start lines (")
        terminal.until(lambda: terminal.lines[-1] == "session here | no models")
        terminal.enter("els")
        terminal.until("ran 'models'")
        terminal.enter("quit")
        assert terminal.end() == 0
    assert (home / "saved").read_text() == "[0]"


def test_leaving_asks_while_a_job_runs(home):
    with shell(home) as terminal:
        terminal.until("session here")
        fifo = home / "lines"
        os.mkfifo(fifo)
        terminal.enter("start lines")
        with fifo.open("w"):
            terminal.until(lambda: "job 1 start" in terminal.lines[-1])
            terminal.type(CTRL_D)
            terminal.until("job 1 runs: end and leave? [y/N]:")
            terminal.enter("n")
            terminal.enter("models")
            terminal.until("ran 'models'")
            terminal.enter("quit")
            terminal.until(lambda: terminal.text.count("end and leave?") == 2)
            terminal.enter("y")
            assert terminal.end() == 0
    assert (home / "saved").read_text() == "[130]"


# ---- the end -------------------------------------------------------------------------------------


def test_a_closed_terminal_ends_the_shell_and_the_session_is_saved(home):
    with shell(home) as terminal:
        terminal.until("session here")
        terminal.enter("load teacher")
        terminal.until("entrenar [teacher]>")
        terminal.hang_up()
        deadline = time.monotonic() + 20
        while not (home / "saved").exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)
    assert (home / "saved").read_text() == '["teacher"]'


@pytest.mark.parametrize("doing", ["", "sleep"])
def test_sigterm_ends_the_shell_and_the_session_is_saved(home, doing):
    with shell(home) as terminal:
        terminal.until("session here")
        terminal.enter("load teacher")
        terminal.enter(doing)
        terminal.until("asleep" if doing else "entrenar [teacher]>")
        os.kill(terminal.pid, signal.SIGTERM)
        assert terminal.end() == 128 + signal.SIGTERM
    assert (home / "saved").read_text() == '["teacher"]'
