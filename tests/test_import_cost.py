"""What starting a tool or importing a library loads, seen from a fresh process."""

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.tier2

TOOLS = ("distill", "lora", "inspect", "bench", "shell")
SHOW_HELP = "from entrenar_{tool}.cli import main; main({args}, standalone_mode=False)"


def loaded(code: str) -> set[str]:
    """The top-level names of the modules that a process has loaded when it has run `code`."""
    shown = (
        f"{code}\nimport sys; sys.stderr.write(' '.join({{m.split('.')[0] for m in sys.modules}}))"
    )
    done = subprocess.run([sys.executable, "-c", shown], capture_output=True, text=True, check=True)
    return set(done.stderr.split())


@pytest.mark.parametrize(
    "code",
    [
        *(f"import entrenar_{tool}.cli" for tool in TOOLS),
        *(SHOW_HELP.format(tool=tool, args=["--help"]) for tool in TOOLS),
        SHOW_HELP.format(tool="distill", args=["run", "--help"]),
        *(SHOW_HELP.format(tool=tool, args=["--version"]) for tool in TOOLS),
    ],
)
def test_help_loads_nothing_heavy(code):
    heavy = {"numpy", "scipy", "numba", "rich", "pydantic", "yaml", "tokenizers", "huggingface_hub"}
    heavy |= {"prompt_toolkit"}
    assert loaded(code) & heavy == set()


PROMPT = (
    "import entrenar_shell.start, entrenar_shell.repl, entrenar_shell.prompt_world, "
    "entrenar_shell.prompt_terminal as prompt"
)


def test_the_prompt_of_the_shell_loads_nothing_but_the_line_editor():
    found = loaded(PROMPT)
    assert found & {"numpy", "rich", "pydantic", "yaml", "tokenizers", "huggingface_hub"} == set()
    assert found & {f"entrenar_{tool}" for tool in TOOLS} == {"entrenar_shell"}


def test_the_prompt_takes_little_longer_to_load_than_the_line_editor():
    # which takes 0.1 to 0.2 s, most of what a person waits for
    assert least_seconds(PROMPT) < 2.5 * least_seconds("import prompt_toolkit")


def test_kernels_load_no_compiler_before_the_first_call():
    assert loaded("import entrenar_core.kernels") & {"numba", "llvmlite"} == set()


def test_models_load_no_compiler_and_no_command_line():
    code = "import entrenar_core.models, entrenar_core.train.loop"
    assert loaded(code) & {"numba", "llvmlite", "click", "rich", "pyarrow"} == set()


FIRST_LINES = ["import entrenar_core", "from entrenar_core import Tensor, ops"]


@pytest.mark.parametrize("code", FIRST_LINES)
def test_the_first_line_of_a_program_loads_no_compiler(code):
    assert loaded(code) & {"numba", "llvmlite", "scipy", "torch", "pydantic", "tokenizers"} == set()


def test_importing_takes_less_than_150_ms_of_the_processor():
    assert least_seconds("import entrenar_core") < 0.15


def test_tensors_and_operations_take_little_longer_than_numpy_to_import():
    # numpy alone takes 0.05 to 0.11 s of one processor or another
    numpy_alone = least_seconds("import numpy")
    assert least_seconds("from entrenar_core import Tensor, ops") < numpy_alone + 0.06


def least_seconds(code: str) -> float:
    """The best of several, since the first one may have to compile Python files."""
    return min(import_seconds(code) for _ in range(6))


def import_seconds(code: str) -> float:
    timed = f"import time; t = time.process_time(); {code}; print(time.process_time() - t)"
    kept = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(
        [sys.executable, "-c", timed], capture_output=True, text=True, check=True, env=kept
    )
    return float(done.stdout)


@pytest.mark.parametrize("tool", TOOLS)
def test_help_takes_less_than_150_ms_of_the_processor(tool):
    """The best of several, since the first one may have to compile Python files."""
    assert min(processor_seconds(tool, "--help") for _ in range(5)) < 0.15


def processor_seconds(tool: str, argument: str) -> float:
    code = f"import sys; from entrenar_{tool}.cli import main; sys.exit(main())"
    process = subprocess.Popen([sys.executable, "-c", code, argument], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return usage.ru_utime + usage.ru_stime
