"""The commands that a report ends with: quoted for a shell, broken before options only."""

import shlex
from pathlib import Path

import pytest

from entrenar_distill.next_steps import next_commands


def commands(folder="out", **changes):
    options = {
        "temperature": 2.0, "prompt": "the fox", "controlled": True, "base": None,
        "tool": "entrenar-distill", "python": "/venv/bin/python", "transformers": False,
    } | changes  # fmt: skip
    return next_commands(Path(folder), Path(folder) / "distill.yaml", **options)


@pytest.mark.parametrize("folder", ["out", "it's a $HOME", 'a "b" `c`', "x" * 120, "ä\\b"])
def test_a_shell_reads_every_word_as_it_was_meant(folder):
    first = commands(folder)[0].partition("\n")[2]
    assert shlex.split(first.replace("\\\n", " ")) == [
        *("entrenar-distill", "run", "--config", f"{folder}/distill.yaml"),
        *("--output", f"{folder}-t4", "--set", "distillation.temperature=4"),
    ]


@pytest.mark.parametrize("folder", ["out", "it's a $HOME", 'a "b" `c`', "ä\\b"])
def test_a_script_is_one_word_of_valid_python(folder):
    script = commands(folder, transformers=True)[-1].partition("\n")[2]
    python, option, code = shlex.split(script)
    assert (python, option) == ("/venv/bin/python", "-c")
    compile(code, "script", "exec")


def test_an_adapter_alone_is_put_on_its_base_where_the_student_writes():
    base = Path("ba'se")
    script = commands(base=base, transformers=True)[-1].partition("\n")[2]
    code = shlex.split(script)[2]
    compile(code, "script", "exec")
    assert f'models.load("{base.absolute()}")' in code
    assert 'lora.load_adapter(model, folder + "/adapter")' in code
    assert "pipeline" not in code


def test_without_a_control_the_first_command_adds_it_to_the_run():
    first = commands(controlled=False)[0].partition("\n")[2]
    words = shlex.split(first.replace("\\\n", " "))
    assert words[4:] == ["--output", "out", "--control", "--resume", "auto"]


def test_lines_fit_a_terminal_where_words_allow():
    shown = "\n".join(commands("demo/student", controlled=False, transformers=True))
    assert max(map(len, shown.splitlines())) < 80


@pytest.mark.parametrize(("now", "then"), [(1.0, "2"), (2.0, "4"), (8.0, "4"), (0.5, "1")])
def test_another_temperature_is_another_one(now, then):
    assert f"distillation.temperature={then}" in commands(temperature=now)[0]
