"""What a compiled kernel follows from: the sources of all kernels, and not only its own file.

numba takes a cached kernel for fresh when the file of its function has not changed. But it contains
what it calls from other files, and takes arguments as they do: after an upgrade that changed only
those, it would compute what the version before did, or read memory that is not there.
"""

import functools
import hashlib
from pathlib import Path
from typing import Any

import entrenar_core.kernels


@functools.cache
def sources() -> str:
    """A hash of every source file of the kernels."""
    digest = hashlib.sha256()
    folder = Path(entrenar_core.kernels.__file__).parent
    for path in sorted(folder.rglob("*.py")):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(folder)} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()


def stamp(dispatcher: Any) -> None:
    """Let `dispatcher` take nothing from its cache that was compiled from other sources."""
    file = dispatcher._cache._cache_file
    file._source_stamp = (file._source_stamp, sources())
