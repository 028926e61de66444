"""The parts of the prompt without a terminal: what is shown, and what waits for what."""

import threading
import time
from pathlib import Path

import pytest
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document

from entrenar_common.errors import UsageError
from entrenar_shell.jobs import Jobs
from entrenar_shell.prompt_hint import HintBeside
from entrenar_shell.prompt_line import LineCompleter, coloured
from entrenar_shell.prompt_text import (
    Running,
    current_model,
    held,
    job_notice,
    prompt_text,
    toolbar,
)
from entrenar_shell.prompt_world import SessionWorld
from entrenar_shell.session import Entry, FileState, LoadedModel, Session
from entrenar_shell.statements import Statement, statement_at, statements
from safetensors_bytes import safetensors

COUNT = 100_000


def session(*models: str, **settings: str) -> Session:
    loaded = {name: LoadedModel(name, f"/models/{name}") for name in models}
    return Session("here", models=loaded, settings=settings)


def entry(number: int, line: str, *outputs: str) -> Entry:
    made = tuple(FileState(path, 1, 1) for path in outputs)
    return Entry(number, line, (), "/", 0.0, 1.0, 0, outputs=made)


def write_model(path: Path, *names: str) -> Path:
    """A file with tensors of these names."""
    head, size = safetensors(**dict.fromkeys(names, (1, 1)))
    path.write_bytes(head + bytes(size - len(head)))
    return path


def until(condition, seconds: float = 200) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


# ---- what is shown -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (session(), None),
        (session("a", "b"), "b"),
        (session("a", "b", model="/models/a"), "a"),
        (session("a", model="org/other"), "other"),
        (session("a", model="/elsewhere/model/"), "model"),
    ],
)
def test_the_current_model_is_the_one_that_is_set_or_was_loaded_last(found, expected):
    assert current_model(found) == expected


def test_the_prompt_names_the_current_model():
    assert prompt_text(session()) == "entrenar> "
    assert prompt_text(session("teacher")) == "entrenar [teacher]> "


def test_a_name_cannot_steer_the_terminal():
    assert "\x1b" not in prompt_text(session("a\x1b[2J"))
    assert "\x1b" not in "".join(toolbar("", session("a\x1b[2J"), []))


def test_a_new_session_holds_nothing_and_another_says_what():
    assert held(session()) is None
    found = session("a", "b", model="/models/a")
    found.entries.append(entry(1, "models"))
    assert held(found) == "Session here: 1 command, 2 models (a, b), 1 setting."


def test_the_toolbar_has_the_hint_the_models_and_the_jobs():
    running = [Running(2, "distill --yes &", "step 3 of 9"), Running(3, "sweep &", "")]
    assert toolbar("load MODEL", session("a", "b"), running) == [
        "load MODEL",
        "session here | models a, *b | job 2 distill: step 3 of 9 | job 3 sweep: starting",
    ]


@pytest.mark.parametrize(
    ("code", "cancelled", "expected"),
    [
        (0, False, "job 1 is done: distill & (1m 05s)"),
        (75, True, "job 1 was cancelled, code 75: distill & (1m 05s)"),
        (
            14,
            False,
            "job 1 ended with code 14: distill & (1m 05s); 'log 1' shows what it printed",
        ),
    ],
)
def test_the_end_of_a_job_is_told(code, cancelled, expected):
    assert job_notice(1, "distill &", code=code, seconds=65, cancelled=cancelled) == expected


# ---- lines ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", [("", 0, False)]),
        ("models", [("models", 0, False)]),
        ("models\nload t", [("models", 0, False), ("load t", 7, False)]),
        ("models\n\nquit", [("models", 0, False), ("", 7, False), ("quit", 8, False)]),
        ("load 'a\nb' as t\nquit", [("load 'a\nb' as t", 0, False), ("quit", 16, False)]),
        ("load \\\nt\nquit", [("load \\\nt", 0, False), ("quit", 9, False)]),
        ("load 'a\nb\nc", [("load 'a\nb\nc", 0, True)]),
        ("load \\", [("load \\", 0, True)]),
        ("| wrong\nquit", [("| wrong", 0, False), ("quit", 8, False)]),
    ],
)
def test_a_text_is_taken_for_the_lines_it_has(text, expected):
    assert statements(text) == [Statement(*each) for each in expected]


@pytest.mark.parametrize(
    ("cursor", "expected"), [(0, ("models", 0)), (6, ("models", 6)), (7, ("quit", 0))]
)
def test_the_line_at_the_cursor(cursor, expected):
    found, inside = statement_at("models\nquit", cursor)
    assert (found.text, inside) == expected


def test_an_open_quote_before_a_long_text_is_parsed_in_little_time():
    text = "load 'x\n" + "word " * 20 + "\n" * 5000
    before = time.process_time()
    assert statements(text)[0].open
    assert time.process_time() - before < 1


def test_every_character_of_a_text_has_its_place_among_the_colours():
    text = "models --json\nload 'a\nb' as t # all\n\nzzz | less"
    lines = coloured(text, {("models",): None, ("load",): None})
    assert ["".join(part for _, part in line) for line in lines] == text.split("\n")
    assert lines[0] == [("class:command", "models"), ("", " "), ("class:option", "--json")]
    assert lines[2][0] == ("class:string", "b'")
    assert lines[4][0] == ("class:error", "zzz")


# ---- completion ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def big(tmp_path_factory):
    """The world of a session with a model of 100,000 tensors."""
    names = [f"model.layers.{n // 1000}.experts.{n % 1000}.up.weight" for n in range(COUNT)]
    path = write_model(tmp_path_factory.mktemp("models") / "model.safetensors", *names)
    found = Session("here", models={"big": LoadedModel("big", str(path))})
    return SessionWorld(lambda: found, Jobs())


def offered(completer: LineCompleter, line: str) -> list[str]:
    document = Document(line, len(line))
    return [found.text for found in completer.get_completions(document, CompleteEvent())]


@pytest.mark.tier2
def test_tensor_names_are_not_waited_for(big):
    before = time.thread_time()
    assert big.tensors("big") == ()
    assert time.thread_time() - before < 0.05
    until(lambda: len(big.tensors("big")) == COUNT)


@pytest.mark.tier2
def test_completion_with_a_model_of_100_000_tensors_takes_less_than_50_ms(big):
    completer = LineCompleter(big)
    line = "inspect layers big --filter model.layers.9"
    until(lambda: offered(completer, line))
    times = []
    for _ in range(5):
        before = time.thread_time()
        found = offered(completer, line)
        times.append(time.thread_time() - before)
    assert found[0].startswith("model.layers.9")
    assert min(times) < 0.05


def test_a_model_that_has_changed_is_read_again(tmp_path):
    path = write_model(tmp_path / "model.safetensors", "a")
    found = Session("here", models={"t": LoadedModel("t", str(path))})
    world = SessionWorld(lambda: found, Jobs())
    until(lambda: world.tensors("t") == ["a"])
    write_model(path, "c", "b")
    until(lambda: world.tensors(None) == ["b", "c"])


@pytest.mark.parametrize("content", [None, b"", b"garbage" * 9])
def test_a_model_that_is_gone_or_broken_has_no_tensors(tmp_path, content):
    path = tmp_path / "model.safetensors"
    if content is not None:
        path.write_bytes(content)
    found = Session("here", models={"t": LoadedModel("t", str(path))})
    world = SessionWorld(lambda: found, Jobs())
    world.tensors("t")
    until(lambda: not world._names._reading)
    assert world.tensors("t") == ()


@pytest.mark.tier2
def test_the_world_has_what_was_made_last_first(tmp_path, monkeypatch):
    found = session("a", "b")
    found.entries += [entry(1, "save x", "/x"), entry(2, "models"), entry(3, "save y", "/y")]
    world = SessionWorld(lambda: found, Jobs())
    assert list(world.models) == ["b", "a"]
    assert list(world.outputs.items()) == [("_3", "/y"), ("_1", "/x")]
    assert list(world.entries.items()) == [(3, "save y"), (2, "models"), (1, "save x")]
    assert world.choices("history") == ("on", "off")
    assert world.choices("teacher") == "model"
    assert {"model", "training.batch_size"} <= world.settings.keys()
    (tmp_path / "sub").mkdir()
    (tmp_path / "file").write_text("")
    monkeypatch.chdir(tmp_path)
    assert sorted((f.name, f.folder) for f in world.files("")) == [("file", False), ("sub", True)]
    assert world.files("none/") == ()


# ---- the hint ------------------------------------------------------------------------------------


class Slow:
    """Finds hints when it is let go on."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.go = threading.Semaphore(0)

    def __call__(self, text: str, cursor: int) -> str:
        self.asked.append(text)
        assert self.go.acquire(timeout=200)
        return f"hint for {text}"


def test_the_hint_is_not_waited_for_and_the_latest_line_counts():
    slow, changes = Slow(), []
    hint = HintBeside(slow, changed=lambda: changes.append(1))
    assert hint("l", 0) == ""
    until(lambda: slow.asked)
    assert [hint(text, 0) for text in ("lo", "loa", "load")] == [""] * 3
    slow.go.release()
    slow.go.release()
    until(lambda: hint("load", 0) == "hint for load")
    assert slow.asked == ["l", "load"]
    until(lambda: len(changes) == 2)


def test_what_no_hint_can_be_found_for_does_not_stop_the_next():
    def find(text: str, cursor: int) -> str:
        if text == "bad":
            raise UsageError("bad")
        return text

    seen: list[threading.ExceptHookArgs] = []
    before, threading.excepthook = threading.excepthook, seen.append
    try:
        hint = HintBeside(find, changed=lambda: None)
        hint("bad", 0)
        until(lambda: seen)
        until(lambda: hint("good", 0) == "good")
    finally:
        threading.excepthook = before
