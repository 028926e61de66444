"""The shell without a terminal: exit codes, what is printed, who is asked."""

import io
import json

import pytest

from small_llama import write_model


def feed(monkeypatch, data: bytes) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data), encoding="utf-8"))


CODES = [
    ([""], 0),
    (["# nothing", "   "], 0),
    (["models"], 0),
    (["load teacher as t", "inspect info"], 0),
    (["inspect info teacher"], 0),
    (["compare teacher teacher"], 0),
    (["compare teacher other --values"], 1),
    (["compare teacher other --values", "inspect info nowhere"], 1),
    (["inspect info nowhere", "compare teacher other --values"], 14),
    (["inspect info garbage.gguf"], 11),
    (["frobnicate"], 2),
    (["inspect"], 2),
    (["inspect info --what"], 2),
    (["inspect info 'open"], 2),
    (["models |"], 2),
    (["inspect info"], 2),
    (["load nowhere"], 14),
    (["load teacher as 9"], 10),
    (["set color mauve"], 10),
    (["set training.epoch 3"], 2),
    (["memory teacher --ram 1MB"], 1),
    (["distill"], 2),
    (["finetune --data x"], 2),
    (["sweep training.seed=1,2"], 2),
    (["ask --model teacher"], 2),
    (["unload t"], 14),
    (["plot loss"], 2),
    (["plot loss teacher"], 14),
    (["source nowhere"], 14),
    (["!exit 7"], 7),
    (["!kill -9 $$"], 137),
    (["models | exit 3"], 3),
    (["models | true"], 0),
    (["inspect info nowhere | true"], 14),
    (["models > nowhere/x"], 21),
    (["quit", "frobnicate"], 0),
    (["exit"], 0),
    (["models &"], 2),
]


@pytest.fixture
def folder(model, tmp_path):
    write_model(tmp_path / "other", 2.0)
    (tmp_path / "garbage.gguf").write_bytes(b"GGUF" + bytes(3))
    return tmp_path


@pytest.mark.parametrize(("lines", "code"), CODES, ids=[" ; ".join(c[0]) for c in CODES])
def test_the_exit_code_is_that_of_the_first_line_that_fails(shell, folder, lines, code):
    given = shell(*(word for line in lines for word in ("-c", line)))
    assert given.returncode == code, given.stderr


@pytest.mark.parametrize(("lines", "code"), CODES[::4], ids=[" ; ".join(c[0]) for c in CODES[::4]])
def test_the_same_comes_from_a_file_and_through_a_pipe(shell, folder, monkeypatch, lines, code):
    text = "\n".join(lines)
    (folder / "script.ent").write_text(text)
    assert shell("script.ent").returncode == code
    for words in ((), ("-",)):
        feed(monkeypatch, text.encode())
        assert shell(*words).returncode == code


def test_lines_after_a_failure_are_not_carried_out(shell, folder):
    done = shell("-c", "inspect info nowhere", "-c", "!echo reached")
    assert "reached" not in done.stdout


def test_keep_going_carries_out_all_and_ends_with_the_first_code(shell, folder):
    done = shell(
        "--keep-going", "-c", "inspect info nowhere", "-c", "compare teacher other",
        "-c", "!echo reached",
    )  # fmt: skip
    assert "reached" in done.stdout
    assert done.returncode == 14


def test_a_script_may_have_a_byte_order_mark_and_carriage_returns(shell, folder):
    (folder / "dos.ent").write_bytes("\ufeffload teacher as t\r\nmodels\r\n".encode())
    done = shell("dos.ent")
    assert (done.returncode, "teacher" in done.stdout) == (0, True)


def test_a_byte_order_mark_may_come_through_a_pipe(shell, folder, monkeypatch):
    feed(monkeypatch, "\ufeff# a comment\r\n".encode())
    assert shell().returncode == 0


def test_a_script_that_is_no_text_is_refused(shell, folder, monkeypatch):
    (folder / "x.ent").write_bytes(b"models\n\xff\xfe\n")
    assert shell("x.ent").returncode == 11
    feed(monkeypatch, b"models\n\xff\xfe\n")
    assert shell().returncode == 11


def test_a_script_that_ends_within_a_quote_says_so(shell, folder):
    (folder / "x.ent").write_text("models\nload 'teacher\nas t\n")
    done = shell("x.ent")
    assert done.returncode == 2
    assert "E-USAGE" in done.stderr


def test_a_line_goes_on_after_a_backslash(shell, folder):
    (folder / "x.ent").write_text("load teacher \\\n  as t\ninspect info t\n")
    assert shell("x.ent").returncode == 0


def test_a_file_of_commands_can_source_another_but_not_itself(shell, folder):
    (folder / "a.ent").write_text("source b.ent\ninspect info t\n")
    (folder / "b.ent").write_text("load teacher as t\n")
    assert shell("a.ent").returncode == 0
    (folder / "c.ent").write_text("source c.ent\n")
    done = shell("-c", "source c.ent")
    assert (done.returncode, "sources itself" in done.stderr) == (2, True)


def test_without_a_terminal_nothing_is_coloured(shell, folder):
    done = shell("-c", "load teacher as t", "-c", "models", "-c", "help", "-c", "history")
    assert "\x1b" not in done.stdout + done.stderr


def documents(text: str) -> list[dict]:
    decoder, found, at = json.JSONDecoder(), [], 0
    while text[at:].strip():
        at += len(text[at:]) - len(text[at:].lstrip())
        document, at = decoder.raw_decode(text, at)
        found.append(document)
    return found


def test_json_is_asked_of_every_command(shell, folder):
    done = shell(
        "--json", "-c", "load teacher as t", "-c", "inspect info", "-c", "models", "-c", "config",
        "-c", "set student t", "-c", "help", "-c", "history",
    )  # fmt: skip
    assert [found["schema"] for found in documents(done.stdout)] == [
        "entrenar.shell.load/1", "entrenar.inspect.info/1", "entrenar.shell.models/1",
        "entrenar.shell.config/1", "entrenar.shell.set/1", "entrenar.shell.help/1",
        "entrenar.shell.history/1",
    ]  # fmt: skip


def test_json_of_one_command_is_its_own(shell, folder):
    done = shell("-c", "load teacher as t --json", "-c", "models")
    text, _, shown = done.stdout.rpartition("}\n")
    assert documents(text + "}")[0]["schema"] == "entrenar.shell.load/1"
    assert shown.startswith("Models")


def test_what_asks_needs_yes_where_nobody_is(shell, folder):
    done = shell("-c", "load teacher as t", "-c", "distill --data x")
    assert done.returncode == 2
    assert "hint: add --yes, or --dry-run to see the plan" in done.stderr


def test_a_dry_run_asks_nobody(shell, folder):
    done = shell("-c", "load teacher as t", "-c", "finetune --data nowhere.txt --dry-run")
    assert "matches no file" in done.stderr  # it came as far as the tool


@pytest.mark.parametrize("yes", [("--yes",), ("-c", "set yes on")])
def test_yes_can_be_said_once_for_all(shell, folder, yes):
    done = shell(*yes, "-c", "load teacher as t", "-c", "finetune --data nowhere.txt")
    assert "matches no file" in done.stderr


def test_a_session_is_kept_only_where_it_has_a_name(shell, folder, tmp_path):
    shell("-c", "load teacher as t")
    assert shell("--session", "kept", "-c", "load teacher as t").returncode == 0
    for options in (["--session", "kept"], ["--resume"]):
        found = json.loads(shell(*options, "--json", "-c", "models").stdout)["data"]["models"]
        assert [model["name"] for model in found] == ["t"]


@pytest.mark.parametrize(
    "words",
    [("x.ent", "-c", "models"), ("--resume", "--session", "x"), ("--resume", "--no-history")],
)
def test_options_that_exclude_each_other_are_refused(shell, words):
    assert shell(*words).returncode == 2
