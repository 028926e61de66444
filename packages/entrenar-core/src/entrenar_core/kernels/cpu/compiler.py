"""Compiling kernels in a process of its own, so that every process runs the same machine code.

numba optimizes a parallel kernel when it compiles it, and once more when it links it into what it
caches. The process that has compiled a kernel runs the first version and all later ones, which
read the cache, the second: with reassociated sums they differ in the last bit, and a first run that
was killed and resumed would not continue to the bit. So one child compiles, and everybody reads.
"""

import atexit
import contextlib
import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from numba.core import types
from numba.core.errors import NumbaError
from numba.core.runtime.nrt import rtsys

from entrenar_core.kernels.registry import COMPILES

_process: subprocess.Popen[str] | None = None


def read_through_child(dispatcher: Any) -> None:
    """Let `dispatcher`, at a miss of its cache, have the child fill the cache and read it again.

    Where no child can be started the dispatcher compiles as numba does.
    """
    if os.environ.get(COMPILES):
        return
    read = without_registries(dispatcher._cache)
    name = f"{dispatcher.py_func.__module__}:{dispatcher.py_func.__name__}"

    def load_overload(signature: Any, context: Any) -> Any:
        found = read(signature, context)
        if found is None and _compile(name, signature):
            found = read(signature, context)
        return found

    dispatcher._cache.load_overload = load_overload


def without_registries(cache: Any) -> Callable[[Any, Any], Any]:
    """What reads `cache` as its `load_overload` does, which first loads all that numba can compile.

    That takes half a second in every process, and imports SciPy where there is one. Machine code
    needs nothing of it but the symbols of numba's runtime; those of the thread pool are there since
    `threads.start_threads`. Whatever compiles loads the rest by itself, later too.
    """

    def read(signature: Any, context: Any) -> Any:
        rtsys.initialize(context)
        with cache._guard_against_spurious_io_errors():
            return cache._load_overload(signature, context)
        return None  # the guard has caught an error

    known = hasattr(cache, "_load_overload") and hasattr(cache, "_guard_against_spurious_io_errors")
    return read if known else cache.load_overload


def _compile(name: str, signature: Any) -> bool:
    """Have the child compile; False if it cannot."""
    arguments = getattr(signature, "args", signature)
    request = json.dumps([name, [_encode(argument) for argument in arguments]])
    try:
        child = _child()
        assert child.stdin is not None and child.stdout is not None
        print(request, file=child.stdin, flush=True)
        return child.stdout.readline() == "done\n"
    except OSError:
        return False


def _child() -> "subprocess.Popen[str]":
    global _process
    if _process is None or _process.poll() is not None:
        _process = subprocess.Popen(
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, COMPILES: "1"},
            start_new_session=True,  # Ctrl-C is for the parent to handle
        )
        atexit.register(_stop, _process)
    return _process


def _stop(process: "subprocess.Popen[str]") -> None:
    # the child ends when its input does, which also happens when the parent is killed
    with contextlib.suppress(OSError):
        process.communicate()


def _encode(kind: Any) -> Any:
    if isinstance(kind, types.Array):
        return [str(kind.dtype), kind.ndim, kind.layout, not kind.mutable, kind.aligned]
    return str(kind)


def _decode(text: Any) -> Any:
    if isinstance(text, list):
        dtype, ndim, layout, readonly, aligned = text
        return types.Array(getattr(types, dtype), ndim, layout, readonly=readonly, aligned=aligned)
    return getattr(types, "boolean" if text == "bool" else text)


def _serve() -> None:
    """The child: compile what each line of the input asks for."""
    for line in sys.stdin:
        name, arguments = json.loads(line)
        module, _, function = name.partition(":")
        dispatcher: Any = getattr(importlib.import_module(module), function)
        try:
            dispatcher.compile(tuple(_decode(argument) for argument in arguments))
            sys.stdout.write("done\n")
        except (NumbaError, AttributeError) as problem:
            # the parent compiles by itself then, and shows what is wrong
            sys.stdout.write(f"failed: {type(problem).__name__}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    _serve()
