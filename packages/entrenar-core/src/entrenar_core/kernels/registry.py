"""`@kernel`: one table from (function, backend, dtype) to code. The only dispatch in the library.

A kernel takes arrays and returns arrays. The decorated body is the *reference*: it is written once
against `xp` (numpy or cupy) and is the definition, the oracle and the fallback. A faster version
registers itself with `@override("file.name", "float32")` in a module of the same name under
`kernels.cpu`; that module is imported at the first call of a kernel that has one, so that importing
this library imports no compiler.
"""

import importlib
import importlib.util
from collections.abc import Callable
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np

from entrenar_core.kernels.held import Held

COMPILES = "ENTRENAR_KERNEL_COMPILER"
"""Set in the environment of a process that is there to compile kernels for others."""

KERNELS: dict[str, "Kernel"] = {}
"""Every kernel by its qualified name `file.function`, for the tests and benchmarks that loop over
all of them."""


class Kernel:
    """A reference implementation with its overrides. Call it like the function it decorates."""

    def __init__(self, reference: Callable[..., Any]):
        self.reference = reference
        self.name = f"{reference.__module__.rpartition('.')[2]}.{reference.__name__}"
        self.__doc__ = reference.__doc__
        self.__name__ = reference.__name__
        self.__module__ = reference.__module__
        self.__wrapped__ = reference
        self.overrides: dict[tuple[str, str], Callable[..., Any]] = {}
        self._loaded: set[str] = set()
        self._chosen: dict[tuple[type, Any], Callable[..., Any]] = {}

    def __call__(self, first: Any, /, *args: Any, **kwargs: Any) -> Any:
        # a dtype's name takes microseconds to make, so what it leads to is remembered
        implementation = self._chosen.get((type(first), first.dtype))
        if implementation is None:
            implementation = self._choose(first)
        return implementation(first, *args, **kwargs)

    def _choose(self, first: Any) -> Callable[..., Any]:
        backend = backend_of(first)
        if backend not in self._loaded:
            self.load(backend)
        found = self.overrides.get((backend, first.dtype.name), self.reference)
        self._chosen[type(first), first.dtype] = found
        return found

    def load(self, backend: str) -> None:
        """Import the overrides of `backend` for this kernel's file, if there are any."""
        code_of(backend, self.reference.__module__.rpartition(".")[2])
        self._loaded.add(backend)


@cache
def code_of(backend: str, file: str) -> ModuleType | None:
    """The module with the overrides of `backend` for a kernel's file; None where there are none."""
    folder = f"{__package__}.{backend}"
    if importlib.util.find_spec(folder) and importlib.util.find_spec(f"{folder}.{file}"):
        return importlib.import_module(f"{folder}.{file}")
    return None


def kernel(reference: Callable[..., Any]) -> Kernel:
    """Register `reference` as the definition of a kernel. Its first argument is an array whose type
    decides the backend and whose dtype decides the override."""
    entry = Kernel(reference)
    KERNELS[entry.name] = entry
    return entry


def override(name: str, *dtypes: str, backend: str = "cpu") -> Callable[[Any], Any]:
    """Register the decorated function as the kernel `name` for `backend` and `dtypes`."""

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        for dtype in dtypes:
            KERNELS[name].overrides[backend, dtype] = function
        return function

    return register


def backend_of(array: Any) -> str:
    """`cpu` for numpy arrays and what is held, `cuda` for cupy arrays: the type itself decides."""
    return "cpu" if isinstance(array, np.ndarray | Held) else "cuda"


def array_module(array: Any) -> ModuleType:
    """The module `xp` (numpy or cupy) whose functions work on `array`."""
    return np if isinstance(array, np.ndarray) else importlib.import_module("cupy")
