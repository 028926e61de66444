"""Compiling all kernels ahead: once, and nothing the second time."""

import os
import subprocess
import sys

import pytest

from entrenar_common.errors import InternalError
from entrenar_core import prepare

PROGRAM = "from entrenar_core.prepare import prepare; prepare()"


@pytest.mark.tier3
def test_what_was_compiled_is_not_compiled_again(tmp_path):
    def files():
        found = tmp_path.rglob("*.nb*")
        return {path.name: path.stat().st_mtime_ns for path in found}

    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", PROGRAM], env=environment, check=True)
    first = files()
    subprocess.run([sys.executable, "-c", PROGRAM], env=environment, check=True)
    assert len(first) > 60
    assert files() == first


@pytest.mark.tier2
def test_a_kernel_that_cannot_be_compiled_is_named(monkeypatch, capfd):
    monkeypatch.setattr(prepare, "KERNELS", {"no.such_kernel": None})
    monkeypatch.setattr(prepare, "CASES", {"no.such_kernel": []})
    with pytest.raises(InternalError, match=r"no\.such_kernel"):
        prepare.prepare(1)
    assert "no.such_kernel" in capfd.readouterr().err
