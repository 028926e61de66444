"""What several tests of entrenar-shell use: a small model, and a shell without a terminal."""

from collections.abc import Callable
from pathlib import Path

import pytest

from entrenar_common.testing import CliResult
from entrenar_core.io.os_calls import os_calls
from entrenar_shell.cli import main
from small_llama import write_model


@pytest.fixture(autouse=True)
def own_folders(tmp_path_factory, monkeypatch) -> None:
    """Sessions, histories and caches of tests are their own."""
    home = tmp_path_factory.mktemp("home")
    for name in ("XDG_DATA_HOME", "XDG_STATE_HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(home / name.lower()))
    monkeypatch.setenv("HOME", str(home))


@pytest.fixture
def without_waiting_for_the_disk(monkeypatch) -> None:
    """A real fsync would take most of a test's time."""
    monkeypatch.setattr(os_calls, "fsync", lambda fd: None)


@pytest.fixture
def model(tmp_path) -> Path:
    """A folder with a LLaMA of a thousand numbers."""
    return write_model(tmp_path / "teacher")


@pytest.fixture
def shell(capfd, monkeypatch, tmp_path) -> Callable[..., CliResult]:
    """A function that runs `entrenar-shell` with arguments in a folder, without a terminal."""
    monkeypatch.chdir(tmp_path)

    def command(*arguments: str) -> CliResult:
        capfd.readouterr()
        code = main(list(arguments), prog_name="entrenar-shell", standalone_mode=False)
        printed = capfd.readouterr()
        return CliResult(printed.out, printed.err, code)

    return command
