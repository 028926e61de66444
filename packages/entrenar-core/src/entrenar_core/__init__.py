"""Torch-free training of transformer models: tensors, operations and what is built of them.

    from entrenar_core import Tensor, ops, no_grad

The names here are loaded when they are first used, so `import entrenar_core` costs next to nothing.
Everything else is in the modules: `models`, `nn`, `optim`, `data`, `train`, `io`. Type checkers
read the names in `__init__.pyi`.
"""

import importlib
from typing import Any

__version__ = "0.1.0"

_AUTOGRAD = ("Parameter", "Tensor", "checkpoint", "memory_report", "no_grad", "op", "ops")
_TESTING = ("check_grads",)


def __getattr__(name: str) -> Any:
    # import_module and no import statement: for the layers this file is below all that it offers
    if name in _AUTOGRAD:
        home = importlib.import_module("entrenar_core.autograd")
    elif name in _TESTING:
        home = importlib.import_module("entrenar_core.testing")
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(home, name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_AUTOGRAD, *_TESTING})
