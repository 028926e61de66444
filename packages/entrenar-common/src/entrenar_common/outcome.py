"""How a command ended: its exit code, and what is printed when it failed."""

import contextlib
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from typing import Any, TextIO

import click

from entrenar_common.errors import (
    EntrenarError,
    InternalError,
    OutOfMemoryError,
    StorageError,
    UsageError,
)
from entrenar_common.output import Output

__all__ = ["of"]

_INTERRUPTED = 130  # 128 + SIGINT, as shells have it
_PIPE_CLOSED = 141  # 128 + SIGPIPE


def of(run: Callable[[], Any], out: Output, program: str) -> int:
    """Call `run`, report what it raises, and give the exit code of the program.

    `run` returns None for success, or an exit code of its own.
    """
    _print_anything()
    try:
        code = _reported(run, out, program)
        sys.stdout.flush()
        sys.stderr.flush()
    except BrokenPipeError:  # the reader, such as `head`, has all that it wants
        _discard(sys.stdout)
        return _PIPE_CLOSED
    except OSError as error:  # the last of the output, as when it goes to a file on a full disk
        _discard(sys.stdout)
        return _report(_storage_error(error), out)
    return code


def _reported(run: Callable[[], Any], out: Output, program: str) -> int:
    try:
        code = run()
    except click.exceptions.Exit as end:  # --help, --version
        return end.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        sys.stderr.write(error.format_message() + "\n")
        return UsageError.exit_code
    except (KeyboardInterrupt, click.Abort):
        with _whoever_reads():
            out.close()
            out.note("interrupted")
        return _INTERRUPTED
    except BrokenPipeError:
        raise
    except Exception as error:
        return _report(_as_ours(error, program), out)
    else:
        out.close()
        return int(code or 0)


def _report(error: EntrenarError, out: Output) -> int:
    with _whoever_reads():
        out.close()
        if out.debug:
            sys.stderr.write("".join(traceback.format_exception(error)))
        out.error(error.report())
    return error.exit_code


@contextlib.contextmanager
def _whoever_reads() -> Iterator[None]:
    """Print how it ended. Where nobody reads that any more, as of a terminal that was closed, the
    exit code still says it."""
    try:
        yield
    except OSError:
        _discard(sys.stderr)


# ---- what was raised, as one of our errors -----------------------------------------------------


def _as_ours(error: Exception, program: str) -> EntrenarError:
    for kind, translate in _TRANSLATIONS.items():
        if isinstance(error, kind):
            ours = translate(error, program)
            break
    else:
        ours = _internal_error(error, program)
    if ours is not error:
        ours.__cause__ = error
    return ours


def _itself(error: Any, _program: str) -> EntrenarError:
    return error


def _usage_error(error: Any, program: str) -> UsageError:
    near = getattr(error, "possibilities", None)
    if near:
        hint = f"did you mean {' or '.join(near)}?"
    elif error.__cause__ is not None and getattr(error.__cause__, "hint", None):
        hint = error.__cause__.hint
    else:
        context = getattr(error, "ctx", None)
        hint = f"see '{context.command_path if context else program} --help'"
    # Click's own text has the possibilities in it, unless the plain message is taken.
    message = error.message if near else error.format_message()
    lines = [line.strip() for line in message.strip().splitlines() if line.strip()]
    first = lines[0].rstrip(".")
    return UsageError(first[:1].lower() + first[1:], hint=hint, details=lines[1:])


def _memory_error(error: Any, _program: str) -> OutOfMemoryError:
    text = str(error)
    return OutOfMemoryError(
        f"out of memory: {text}" if text else "out of memory",
        hint="use a smaller batch or model, or end other programs",
    )


def _storage_error(error: OSError, _program: str = "") -> StorageError:
    where = f": {error.filename}" if error.filename else ""
    return StorageError(
        f"{error.strerror or error}{where}",
        hint="check the path, its permissions and the free space",
    )


def _internal_error(error: Exception, program: str) -> InternalError:
    text = str(error)
    return InternalError(
        f"{type(error).__name__}: {text}" if text else type(error).__name__,
        hint=f"this is a bug in {program}: report what --debug prints",
    )


_TRANSLATIONS: dict[type[Exception], Callable[[Any, str], EntrenarError]] = {
    EntrenarError: _itself,
    click.ClickException: _usage_error,
    MemoryError: _memory_error,
    OSError: _storage_error,
}


# ---- the standard streams ----------------------------------------------------------------------


def _print_anything() -> None:
    """Show what a stream's encoding has no bytes for escaped, where Python would raise."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


def _discard(stream: TextIO) -> None:
    """Send what is still in its buffer nowhere, or Python would complain when it exits."""
    with contextlib.suppress(OSError, ValueError):  # of a stream that is no file, or is closed
        nowhere = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nowhere, stream.fileno())
        finally:
            os.close(nowhere)
