"""The machine that figures come from, in words for a report or a benchmark."""

import platform
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Environment:
    """The machine and the versions that the figures come from."""

    cpu: str
    python: str
    numpy: str
    numba: str
    blas: str


def environment() -> Environment:
    """What this process runs on."""
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]  # type: ignore[index]
    return Environment(
        cpu=_cpu(),
        python=platform.python_version(),
        numpy=np.__version__,
        numba=version("numba"),
        blas=f"{blas['name']} {blas['version']}",
    )


def _cpu() -> str:
    """The CPU's marketing name with its family and model, which tell generations apart."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    facts = dict(line.split(":", 1) for line in lines if ":" in line)
    facts = {key.strip(): value.strip() for key, value in facts.items()}
    name = facts.get("model name", platform.machine())
    if "cpu family" in facts:
        name += f" (family {facts['cpu family']}, model {facts['model']})"
    cores = sum(line.startswith("processor") for line in lines)
    return f"{name}, {cores} cores"
