"""The history is prompt_toolkit's file, shared, private, and without secrets."""

import stat
from concurrent.futures import ThreadPoolExecutor

import pytest
from prompt_toolkit.history import FileHistory

from entrenar_shell.history_file import HistoryFile, history_path, keeps, typed_texts

TEXTS = ["models", "load 'a\nb' as t", "inspect layers é", "+ odd\n+lines", "# a comment"]


def refuse(text: str) -> None:
    raise AssertionError(text)


def test_prompt_toolkit_reads_what_is_written(tmp_path):
    path = tmp_path / "history"
    history = HistoryFile(path, warn=refuse)
    for text in TEXTS:
        history.append(text)
    assert list(FileHistory(path).load_history_strings()) == TEXTS[::-1]


def test_what_prompt_toolkit_writes_is_read_latest_first(tmp_path):
    path = tmp_path / "history"
    for text in TEXTS:
        FileHistory(path).store_string(text)
    assert list(HistoryFile(path, warn=refuse).texts()) == TEXTS[::-1]


def test_two_shells_share_the_file(tmp_path):
    path = tmp_path / "history"
    shells = [HistoryFile(path, warn=refuse) for _ in range(2)]
    typed = [[f"load {shell} {number}" for number in range(50)] for shell in range(2)]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda at: [shells[at].append(text) for text in typed[at]], range(2)))
    found = list(HistoryFile(path, warn=refuse).texts())
    assert sorted(found) == sorted(typed[0] + typed[1])


def test_it_is_its_owners_alone(tmp_path):
    path = tmp_path / "new" / "history"
    HistoryFile(path, warn=refuse).append("models")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "text",
    [
        " models",
        "\tmodels",
        "fetch a/b --token hf_abcdefghijklmnop",
        "fetch a/b --token=x",
        "fetch a/b --hf-token",
        "!HF_TOKEN=abc huggingface-cli whoami",
        "!curl -H 'Authorization: Bearer hf_AbCdEfGhIj'",
        "models\n!echo hf_AbCdEfGhIj",
        "",
    ],
)
def test_secrets_and_indented_lines_are_not_kept(tmp_path, text):
    path = tmp_path / "history"
    HistoryFile(path, warn=refuse).append(text)
    assert not path.exists()


@pytest.mark.parametrize(
    "text",
    [
        "generate --max-new-tokens 5",
        "distill --set generation.max_new_tokens=5",
        "fetch a/hf_token",
        "inspect x --tokenizer y",
        "inspect tensors t --filter '*.key=*'",
    ],
)
def test_what_only_looks_like_a_secret_is_kept(text):
    assert keeps(text)


def test_an_unwritable_file_is_told_once(tmp_path):
    (tmp_path / "folder").write_text("a file in the way")
    told = []
    history = HistoryFile(tmp_path / "folder" / "history", warn=told.append)
    history.append("models")
    history.append("models")
    assert len(told) == 1
    assert told[0].startswith("the history is not kept: ")
    assert str(tmp_path) in told[0]


@pytest.mark.parametrize("content", [b"", b"\x00\xff+\n", b"cut off\n+whole\n", b"+last"])
def test_a_damaged_file_gives_what_it_has(tmp_path, content):
    path = tmp_path / "history"
    path.write_bytes(content)
    expected = [t for t in ("whole", "last") if t.encode() in content]
    assert list(HistoryFile(path, warn=refuse).texts()) == expected


def test_a_missing_file_and_no_file_are_empty(tmp_path):
    assert list(HistoryFile(tmp_path / "none", warn=refuse).texts()) == []
    assert list(HistoryFile(None, warn=refuse).texts()) == []


def test_of_a_huge_file_the_end_is_read(tmp_path):
    path = tmp_path / "history"
    path.write_bytes(b"\n# t\n+first\n" + b"+x" * 3 * 2**20 + b"\n\n# t\n+last\n")
    assert next(HistoryFile(path, warn=refuse).texts()) == "last"
    assert "first" not in list(HistoryFile(path, warn=refuse).texts())


def test_typed_lines_that_follow_each_other_are_one_text():
    assert typed_texts(b"+a\n+b\n\n+c\n") == ["a\nb", "c"]


def test_the_variable_names_the_file(monkeypatch, tmp_path):
    monkeypatch.setenv("ENTRENAR_HISTFILE", str(tmp_path / "mine"))
    assert history_path() == tmp_path / "mine"
    monkeypatch.setenv("ENTRENAR_HISTFILE", "")
    assert history_path() is None


@pytest.mark.parametrize(
    ("state", "home", "expected"),
    [
        ("/state", "/home/x", "/state/entrenar/shell_history"),
        ("relative", "/home/x", "/home/x/.local/state/entrenar/shell_history"),
        ("", "", None),
    ],
)
def test_else_it_is_in_the_state_folder(monkeypatch, state, home, expected):
    monkeypatch.delenv("ENTRENAR_HISTFILE", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", state)
    monkeypatch.setenv("HOME", home)
    found = history_path()
    assert expected == (None if found is None else str(found))
