"""The one exception tree of the entrenar tools; each class knows how to end the program.

EntrenarError                     when                                                      exit
├── UsageError        E-USAGE        a command line cannot be understood                       2
├── ConfigError       E-CONFIG       a setting, or a combination of settings, makes no sense  10
│   └── ShapeError    E-SHAPE        arrays that must fit together do not (a ValueError too)  10
├── FormatError       E-FORMAT       a file breaks the rules of its format                    11
├── RefusedError      E-REFUSED      going on would be unsafe: code in a file, an overwrite   12
├── IntegrityError    E-INTEGRITY    content differs from its recorded size or digest         13
├── NotFoundError     E-NOTFOUND     a file, folder, model or name does not exist             14
├── UnsupportedError  E-UNSUPPORTED  the input is valid, and nothing here can process it      15
├── HubError          E-HUB          a model hub or the network failed                        20
├── StorageError      E-STORAGE      the operating system could not read or write             21
├── OutOfMemoryError  E-MEMORY       the work does not fit in memory                          22
├── NumericsError     E-NUMERICS     NaN or infinity appeared where a number was due          30
├── CheckpointError   E-CHECKPOINT   a checkpoint cannot be used, or is in use                31
├── SweepError        E-SWEEP        some runs of a study failed                               33
├── InternalError     E-INTERNAL     a bug of ours                                            70
└── InterruptedRun    E-INTERRUPTED  a run was stopped, and its state was saved first         75

A command line prints an error as its text (see `EntrenarError.report`) and ends with its exit code.
"""

from collections.abc import Sequence
from typing import ClassVar

from entrenar_common.text import escape_controls

__all__ = [
    "CheckpointError",
    "ConfigError",
    "EntrenarError",
    "FormatError",
    "HubError",
    "IntegrityError",
    "InternalError",
    "InterruptedRun",
    "NotFoundError",
    "NumericsError",
    "OutOfMemoryError",
    "RefusedError",
    "ShapeError",
    "StorageError",
    "SweepError",
    "UnsupportedError",
    "UsageError",
]


class EntrenarError(Exception):
    """The base of every error raised on purpose; raise one of its subclasses.

    `message` says what is wrong, with the value and where, in one line; `hint` says what to do
    next; `details` are further lines, one for each of several problems found together.

    >>> str(ConfigError("rank is 0", hint="use a rank of at least 1"))
    'rank is 0'
    """

    code: ClassVar[str] = "E-INTERNAL"
    exit_code: ClassVar[int] = 70

    def __init__(
        self, message: str, *, hint: str | None = None, details: Sequence[str] = ()
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.details = tuple(details)

    def __str__(self) -> str:
        return self.message

    def report(self) -> str:
        """The text that a command line prints: message, details indented by two spaces, hint.

        Each is one line: a line break in a name taken from a file cannot forge another.

        >>> print(ConfigError("rank is 0", hint="use a rank of at least 1").report())
        error[E-CONFIG]: rank is 0
        hint: use a rank of at least 1
        """
        lines = [f"error[{self.code}]: {self.message}"]
        lines += [f"  {detail}" for detail in self.details]
        if self.hint:
            lines.append(f"hint: {self.hint}")
        return "\n".join(escape_controls(line) for line in lines)


class UsageError(EntrenarError):
    """When a command line cannot be understood."""

    code = "E-USAGE"
    exit_code = 2


class ConfigError(EntrenarError):
    """When a setting, or a combination of settings, makes no sense."""

    code = "E-CONFIG"
    exit_code = 10


class ShapeError(ConfigError, ValueError):
    """When arrays that must fit together do not."""

    code = "E-SHAPE"


class FormatError(EntrenarError):
    """When a file breaks the rules of its format."""

    code = "E-FORMAT"
    exit_code = 11


class RefusedError(EntrenarError):
    """When going on would be unsafe: running code found in a file, or overwriting work."""

    code = "E-REFUSED"
    exit_code = 12


class IntegrityError(EntrenarError):
    """When content differs from the size or digest recorded for it."""

    code = "E-INTEGRITY"
    exit_code = 13


class NotFoundError(EntrenarError):
    """When a file, a folder, a model or a name does not exist."""

    code = "E-NOTFOUND"
    exit_code = 14


class UnsupportedError(EntrenarError):
    """When the input is valid, and nothing here can process it."""

    code = "E-UNSUPPORTED"
    exit_code = 15


class HubError(EntrenarError):
    """When a model hub, or the network on the way to it, failed."""

    code = "E-HUB"
    exit_code = 20


class StorageError(EntrenarError):
    """When the operating system could not read or write: disk full, no permission, I/O error."""

    code = "E-STORAGE"
    exit_code = 21


class OutOfMemoryError(EntrenarError):
    """When the work does not fit in the memory of the machine or the device."""

    code = "E-MEMORY"
    exit_code = 22


class NumericsError(EntrenarError):
    """When NaN or infinity appeared where a number was due."""

    code = "E-NUMERICS"
    exit_code = 30


class CheckpointError(EntrenarError):
    """When a checkpoint cannot be used, or is in use by another process."""

    code = "E-CHECKPOINT"
    exit_code = 31


class SweepError(EntrenarError):
    """When some runs of a study failed; what the others found was shown before."""

    code = "E-SWEEP"
    exit_code = 33


class InternalError(EntrenarError):
    """When something happened that we had ruled out: a bug of ours."""

    code = "E-INTERNAL"
    exit_code = 70


class InterruptedRun(EntrenarError):
    """When a run was stopped from outside, and its state was saved first."""

    code = "E-INTERRUPTED"
    exit_code = 75
