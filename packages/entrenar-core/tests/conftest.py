"""What several folders of tests use."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from entrenar_core.io.os_calls import os_calls


@pytest.fixture
def ram_path() -> Iterator[Path]:
    """A temporary folder in memory where there is one, for tests that write thousands of files."""
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else None) as folder:
        yield Path(folder)


@pytest.fixture(autouse=True)
def without_waiting_for_the_disk(monkeypatch) -> None:
    """No test cuts the power, and a real fsync would take most of the time."""
    monkeypatch.setattr(os_calls, "fsync", lambda fd: None)
