"""Whether a reader does anything but read: an audit hook in a process of its own sees what it does.

The hook is told of every import, every call of a program, every socket, every file that is opened
and all code that is compiled (PEP 578).
"""

import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

_SCRIPT = """
import resource, sys
from importlib import import_module
from pathlib import Path
from entrenar_common.errors import EntrenarError
module, name, bad, good = sys.argv[1:]
reader = getattr(import_module(module), name)
files = sorted(Path(bad).iterdir())
for path in sorted(Path(good).iterdir()):
    with reader(path) as file:  # what is imported at its first use is imported here
        for tensor in file.names():
            file.read(tensor)
resource.setrlimit(resource.RLIMIT_AS, (2**29,) * 2)
allowed = {"mmap.__new__", "builtins.id", "object.__getattr__", "os.listdir", "os.scandir"}
found = set()
def watch(event, arguments):
    reads = event == "open" and arguments[2] & 3 == 0 and isinstance(arguments[0], str)
    if event not in allowed and not reads:
        found.add((event, repr(arguments)[:200]))
sys.addaudithook(watch)
for path in files:
    try:
        reader(path)
    except EntrenarError:
        continue
    sys.exit(f"{path} was accepted")
sys.exit(repr(sorted(found)) if found else 0)
"""


def refuses_and_only_reads(
    reader: type, bad: Iterable[bytes], good: Iterable[bytes], folder: Path
) -> None:
    """Asserts that `reader` refuses all bad files, in 512 MiB, and only opens them to read."""
    for kind, files in (("bad", bad), ("good", good)):
        (folder / kind).mkdir()
        for number, data in enumerate(files):
            (folder / kind / f"{number}.file").write_bytes(data)
    names = [reader.__module__, reader.__name__, folder / "bad", folder / "good"]
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT, *names],
        check=False, capture_output=True, text=True,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
