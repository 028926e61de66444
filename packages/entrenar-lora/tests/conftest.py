"""What several tests of the commands use."""

import contextlib
from collections.abc import Callable
from pathlib import Path

import pytest

from entrenar_common.testing import CliResult
from entrenar_lora.cli import main


@pytest.fixture
def run(capsys) -> Callable[..., CliResult]:
    """A function that runs `entrenar-lora` with arguments in a folder, in this process."""

    def command(folder: Path, *arguments: str) -> CliResult:
        capsys.readouterr()
        with contextlib.chdir(folder):
            code = main(list(arguments), prog_name="entrenar-lora", standalone_mode=False)
        printed = capsys.readouterr()
        return CliResult(printed.out, printed.err, code)

    return command
