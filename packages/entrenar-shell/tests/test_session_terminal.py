"""A session from end to end, as typed on a terminal of 80 and of 200 columns: a model from a
(loopback) hub, its memory and layers, a distillation, its export; and the session gone on with."""

import re
import stat
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from entrenar_common.progress import NullProgress
from entrenar_common.testing import render_plain
from entrenar_core.io.safetensors_file import SafetensorsFile
from entrenar_core.kernels.cpu.compile import cache_folder
from entrenar_inspect.layers import layers
from entrenar_inspect.opening import open_artifact
from hub_server import repository, serving
from terminal import CTRL_C, PYTHON, Terminal, environment
from tiny_models import tiny_world

pytestmark = pytest.mark.tier3

WORDS = [PYTHON, "-c", "from entrenar_shell.cli import main; main()"]
SETTINGS = [
    "set dataset.name text",
    "set dataset.max_length 32",
    "set training.batch_size 4",
    "set output distilled",
]
FETCH = "fetch org/teacher"
MEMORY = "memory --batch 32 --seq 512"
LAYERS = "inspect layers"
STUDENT = "set student org/student"
PLAN = "distill --temperature 4.0 --alpha 0.7 --epochs 3 --dry-run"
HISTORY = "history"
MISSPELT = "histry"
EXPORT = "export safetensors ./my-model --include-metadata"
QUESTION = "[y/N]:"


class Shell(Terminal):
    """A terminal with the shell on it."""

    def carried_out(self, line: str, *, question: bool = False) -> list[str]:
        """What is shown for a line that is typed at the prompt, up to the next prompt, or up to a
        question."""
        self.until(self._waits, 200)
        before = self._prompts()[-1]
        self.enter(line)
        if question:
            self.until(lambda: self.lines[-1].endswith(QUESTION), 200)
            return self.text.split("\n")[before + 1 :]
        return self._to_the_prompt(before)

    def answered(self, answer: str) -> list[str]:
        """What is shown after the answer to a question, up to the next prompt."""
        asked = len(self.text.split("\n")) - 1
        self.enter(answer)
        return self._to_the_prompt(asked)

    def _to_the_prompt(self, before: int) -> list[str]:
        self.until(lambda: self._prompts()[-1] > before and self._waits(), 200)
        return self.text.split("\n")[before + 1 : self._prompts()[-1]]

    def _prompts(self) -> list[int]:
        lines = self.text.split("\n")
        return [n for n, line in enumerate(lines) if re.match(r"entrenar( \[.*\])?>", line)]

    def _waits(self) -> bool:
        return self.lines[-1].startswith("session ")


@dataclass
class Done:
    """What was shown for each line of a session at a width, and what it left in its folder."""

    folder: Path
    columns: int
    shown: dict[str, list[str]] = field(default_factory=dict)
    code: int = -1
    resumed: list[str] = field(default_factory=list)
    models: list[str] = field(default_factory=list)

    def text(self, line: str) -> str:
        return "\n".join(self.shown[line])


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    folder = tiny_world(tmp_path_factory.mktemp("world"))
    kept = {
        f"org/{name}": repository({p.name: p.read_bytes() for p in (folder / name).iterdir()})
        for name in ("teacher", "student")
    }
    with serving(kept) as hub:
        yield hub, folder / "text"


@pytest.fixture(scope="module")
def start(hub, tmp_path_factory):
    """Starts a shell in a folder with `text` in it, whose home it is, too."""
    served, text = hub

    def start(folder: Path, *options: str, columns: int = 80) -> Shell:
        if not (folder / "text").exists():
            (folder / "text").symlink_to(text)
        env = environment(
            folder,
            HF_ENDPOINT=served.endpoint,
            HF_HOME=str(folder / "hf"),
            HF_HUB_DISABLE_PROGRESS_BARS="1",  # they are drawn when a thread has time for it
            NUMBA_CACHE_DIR=str(cache_folder()),
        )
        return Shell([*WORDS, *options], env=env, cwd=folder, columns=columns, rows=40)

    return start


@pytest.fixture(scope="module", params=[80, 200])
def done(request, start, tmp_path_factory) -> Done:
    """The whole session, and the beginning of the next."""
    done = Done(tmp_path_factory.mktemp("home"), request.param)
    with start(done.folder, columns=done.columns) as shell:

        def carry_out(line: str) -> None:
            done.shown[line] = shell.carried_out(line)

        for line in (FETCH, MEMORY, LAYERS, *SETTINGS, STUDENT):
            carry_out(line)
        done.shown[PLAN] = shell.carried_out(PLAN, question=True)
        done.shown["y"] = shell.answered("y")
        for line in (HISTORY, MISSPELT, EXPORT):
            carry_out(line)
        shell.enter("quit")
        done.code = shell.end()
        done.shown["quit"] = shell.lines
    with start(done.folder, "--resume", columns=done.columns) as shell:
        shell.until("session ")
        done.resumed = shell.lines
        done.models = shell.carried_out("models")
    return done


def test_a_model_is_fetched_and_described(done):
    assert "Fetched org/teacher (161.5 kB, safetensors)" in done.shown[FETCH]
    assert "architecture  LLaMA, 2 layers, hidden size 32" in done.shown[FETCH]


def test_the_memory_of_the_model_is_estimated(done):
    assert "batch          32 × 512 tokens" in done.shown[MEMORY]
    assert any("39,840" in line for line in done.shown[MEMORY])


def test_its_layers_are_a_table_as_wide_as_the_terminal_allows(done):
    (folder,) = (done.folder / "hf/hub/models--org--teacher/snapshots").iterdir()
    with open_artifact(str(folder)) as artifact:
        expected = render_plain(layers(artifact, progress=NullProgress()), width=done.columns)
    assert done.shown[LAYERS] == expected.rstrip("\n").split("\n")


def test_a_dry_run_shows_the_plan_and_asks(done):
    assert "0.7" in done.text(PLAN)
    assert done.shown[PLAN][-1].endswith(QUESTION)


def test_yes_trains(done):
    assert (done.folder / "distilled" / "model.safetensors").exists()


def test_the_history_has_what_was_done_and_how_it_ended(done):
    rows = [line for line in done.shown[HISTORY] if re.match(r"│ +\d+ │", line)]
    typed = [FETCH, MEMORY, LAYERS, *SETTINGS, STUDENT, PLAN]
    if done.columns == 200:  # at 80 the long ones are on several lines
        assert [row.split("│")[2].strip() for row in rows] == typed
    assert len(rows) == len(typed)
    assert all(" ok " in row for row in rows)


def test_a_misspelt_command_is_an_error_with_a_hint(done):
    assert done.shown[MISSPELT] == [
        "error[E-USAGE]: no such command: histry",
        "hint: did you mean history?",
    ]


def test_what_was_trained_is_exported(done):
    with (
        SafetensorsFile(done.folder / "distilled/model.safetensors") as trained,
        SafetensorsFile(done.folder / "my-model/model.safetensors") as exported,
    ):
        assert trained.tensors.keys() == exported.tensors.keys()
        for name in trained.tensors:
            assert trained.read(name).tobytes() == exported.read(name).tobytes()


def test_quit_says_where_the_session_is(done):
    (saved,) = (done.folder / ".local/share/entrenar/sessions").glob("*.json")
    assert done.code == 0
    shown = "".join(done.shown["quit"])  # a long path goes on in the next line
    assert f"Session saved to {saved}; --resume goes on with it" in shown
    assert stat.S_IMODE(saved.stat().st_mode) == 0o600


def test_a_resumed_session_says_what_it_holds(done):
    (saved,) = (done.folder / ".local/share/entrenar/sessions").glob("*.json")
    assert re.search(
        rf"Session {saved.stem}: \d+ commands, 1 model \(teacher\), 5 settings\.",
        " ".join(done.resumed),
    )
    assert any(line.startswith("entrenar [teacher]>") for line in done.resumed)
    assert any("teacher" in line and "39.8K" in line for line in done.models)


# ---- jobs ----------------------------------------------------------------------------------------

LONG = "distill --yes --set training.max_steps=1000000 &"


@pytest.fixture
def training(start, tmp_path):
    """A shell with a training of many hours in the background."""
    with start(tmp_path) as shell:
        for line in (FETCH, *SETTINGS, STUDENT):
            shell.carried_out(line)
        shell.carried_out(LONG)
        shell.until(lambda: (tmp_path / "distilled" / "metrics.jsonl").exists(), 200)
        yield shell, tmp_path


def job_log(home: Path) -> str:
    (log,) = (home / ".local/state/entrenar/jobs").iterdir()
    return log.read_text()


def test_a_cancelled_training_saves_its_state_and_is_in_the_history(training):
    shell, home = training
    shell.type("models" + CTRL_C)  # which the job must not notice
    shell.carried_out("cancel")
    shell.until("job 1 was cancelled, code 75", 200)
    assert "E-INTERRUPTED" in job_log(home)
    assert list((home / "distilled" / "checkpoints").iterdir())
    assert any("exit 75" in line for line in shell.carried_out("history"))


def test_a_training_saves_its_state_when_its_shell_is_killed(training):
    shell, home = training
    shell.kill()
    deadline = time.monotonic() + 200
    while "E-INTERRUPTED" not in job_log(home):
        assert time.monotonic() < deadline, job_log(home)
        time.sleep(0.1)
    assert list((home / "distilled" / "checkpoints").iterdir())
