"""Drivers of studies as processes of their own, and waiting for what they do."""

import os
import subprocess
import sys
import time
from pathlib import Path


def start_driver(script: Path, *words: object) -> subprocess.Popen:
    """Run a driver's script; when this returns, it has opened its study."""
    paths = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    process = subprocess.Popen(
        [sys.executable, script, *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
    )
    assert process.stdout.readline() == "open\n"
    return process


def wait_until(condition, seconds: float = 60.0) -> None:
    """Until a condition holds, or fail."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)
