"""The memory that trainings and generations of this library really take, each measured in a
process of its own."""

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from entrenar_common import errors
from entrenar_common.errors import InternalError, OutOfMemoryError, StorageError, UnsupportedError
from entrenar_common.units import format_binary
from entrenar_core.estimate.inference import Inference
from entrenar_core.estimate.setup import Setup
from entrenar_core.train.process import interrupted_by_signals

_KILLED = -9
_ERRORS: Mapping[str, type[errors.EntrenarError]] = {
    kind.code: kind for kind in map(errors.__dict__.get, errors.__all__) if isinstance(kind, type)
}


def measure_training(model: Path, setup: Setup) -> int:
    """The peak of resident memory, in bytes, of two steps of training the model at `model`: after
    the first one there is the optimizer's state. Pages of files that are mapped count.

    Raises UnsupportedError where the system does not say it, OutOfMemoryError where the process was
    ended for its size, and what loading the model raises.
    """
    return _peak({"task": "train", "folder": str(model), **asdict(setup)})


def measure_inference(model: Path, inference: Inference) -> int:
    """The peak of resident memory, in bytes, of running the model at `model`: prompts are continued
    until they have the stated length; where it generates no text, one pass over as many tokens.

    Raises what `measure_training` raises.
    """
    return _peak({"task": "run", "folder": str(model), **asdict(inference)})


@contextmanager
def random_model(raw: Mapping[str, Any]) -> Iterator[Path]:
    """A folder with a model of the config `raw` and drawn weights, which is removed at the end.

    Raises what making and saving it raises.
    """
    with interrupted_by_signals(), tempfile.TemporaryDirectory(prefix="entrenar-") as folder:
        place = Path(folder) / "model"
        make_model(raw, place)
        yield place


def make_model(raw: Mapping[str, Any], folder: Path) -> None:
    """Save a model of the config `raw` with drawn weights in `folder`; in a process of its own, so
    that it leaves nothing in the memory of this one."""
    _peak({"task": "make", "raw": dict(raw), "folder": str(folder)})


def installed_memory() -> int | None:
    """The main memory of this machine in bytes; None where the system does not say it."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None


def memory_limit() -> int | None:
    """The memory in bytes that this process may have: its limit of address space (`ulimit -v`), or
    the machine's memory where that is less or there is no limit."""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    known = [installed_memory(), None if limit == resource.RLIM_INFINITY else limit]
    return min((each for each in known if each is not None), default=None)


def available_memory() -> int:
    """The main memory, in bytes, that programs can still have without anything being swapped out.

    Raises UnsupportedError where the system does not say it.
    """
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        lines = []
    for line in lines:
        if line.startswith("MemAvailable:"):
            return 1024 * int(line.split()[1])
    raise UnsupportedError(
        "this system has no MemAvailable in /proc/meminfo", hint="memory is measured on Linux only"
    )


def check_room(predicted: int, what: str) -> None:
    """Raise OutOfMemoryError where `predicted` bytes are more than there are on this machine."""
    available = available_memory()
    if predicted > available:
        raise OutOfMemoryError(
            f"{what} is predicted to take {format_binary(predicted)}, and this machine has "
            f"{format_binary(available)} available",
            hint="measure a smaller batch or sequence length, or end other programs",
        )


def check_space(needed: int) -> None:
    """Raise StorageError where the folder of temporary files has no room for `needed` bytes."""
    place = tempfile.gettempdir()
    free = shutil.disk_usage(place).free
    if needed > free:
        raise StorageError(
            f"{place} has {format_binary(free)} free, and a model with random weights takes "
            f"{format_binary(needed)}",
            hint="set TMPDIR to a folder with more room, or measure a smaller model",
        )


def _peak(request: Mapping[str, Any]) -> int:
    return answer_of("entrenar_core.train.measured", request)["peak"]


def answer_of(module: str, request: Mapping[str, Any]) -> dict[str, Any]:
    """What the program `module`, a process of its own, answers to `request`, both as JSON. An error
    there is one here; the request names its `task`.

    Raises OutOfMemoryError where the process was ended for its size, InternalError where it ended
    without an answer, and what it could not do.
    """
    with interrupted_by_signals():
        done = subprocess.run(
            [sys.executable, "-m", module], input=json.dumps(request),
            capture_output=True, text=True, check=False,
        )  # fmt: skip
    if done.returncode == _KILLED or "MemoryError" in done.stderr:
        raise OutOfMemoryError(
            f"the process that was measured ({request['task']}) was ended for want of memory",
            hint="measure a smaller batch or sequence length, or end other programs",
        )
    if done.returncode:
        last = done.stderr.strip().rpartition("\n")[2]
        raise InternalError(
            f"the process that was measured ({request['task']}) ended with {done.returncode}: "
            f"{last[:300]}",
            hint="report what its last line says",
        )
    answer = json.loads(done.stdout)
    if "error" in answer:
        raise _ERRORS[answer["error"]](answer["message"], hint=answer["hint"])
    return answer
