"""The lines typed at the prompt, kept from one shell to the next.

The file has prompt_toolkit's format: an empty line, `# ` and a time, and each line of what was
typed after a `+`. It is only ever appended to, with one write for what was typed at once, so
several shells share it. It is its owner's alone (0600).

What begins with a space, or holds what looks like a token, is not kept.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

from entrenar_common.errors import StorageError
from entrenar_core.io import files
from entrenar_core.io.os_calls import storage_errors
from entrenar_shell.places import state_folder

__all__ = ["HistoryFile", "history_path", "holds_secret", "keeps", "typed_texts"]

_SECRET = re.compile(
    r"\b(?:hf|api_org)_[A-Za-z0-9]{8,}"  # as the hub writes its tokens
    r"|(?i:--(?:(?:hf|hub|api|access|auth)-)?(?:token|key|secret|password)(?![\w-]))"
    r"|\b[A-Z_]*(?:TOKEN|KEY|SECRET|PASSWORD)="
)

_READ = 4 * 2**20
"""Bytes of a file that are read, its last ones: some 50,000 lines."""


def history_path() -> Path | None:
    """`$ENTRENAR_HISTFILE`, else `shell_history` in the state folder; None where there is none, or
    the variable is empty."""
    named = os.environ.get("ENTRENAR_HISTFILE")
    if named is not None:
        return Path(named).expanduser() if named else None
    folder = state_folder()
    return folder / "shell_history" if folder else None


def keeps(text: str) -> bool:
    """Whether what was typed may be kept.

    >>> keeps("models"), keeps(" models"), keeps("fetch a/b --token hf_abcdefghijkl")
    (True, False, False)
    """
    return bool(text.strip()) and not text[0].isspace() and not holds_secret(text)


def holds_secret(text: str) -> bool:
    """Whether a text has what looks like a token, a key or a password.

    >>> holds_secret("!export HF_TOKEN=x"), holds_secret("models")
    (True, False)
    """
    return _SECRET.search(text) is not None


class HistoryFile:
    """The file at `path`; None keeps nothing. `warn` is told once when it cannot be written."""

    def __init__(self, path: Path | None, *, warn: Callable[[str], None]) -> None:
        self.path = path
        self._warn = warn
        self._writable = path is not None

    def texts(self) -> Iterator[str]:
        """What was typed, the latest first; nothing where there is no file that can be read."""
        if self.path is None:
            return iter(())
        try:
            with self.path.open("rb") as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - _READ))
                content = file.read(_READ)
        except OSError:
            return iter(())
        return reversed(typed_texts(content))

    def append(self, text: str) -> None:
        """Keep `text` if it may be kept."""
        if self.path is None or not self._writable or not keeps(text):
            return
        lines = [f"\n# {datetime.now()}", *(f"+{line}" for line in text.split("\n")), ""]
        try:
            _create_private(self.path)
            files.append(self.path, "\n".join(lines).encode(errors="replace"))
        except StorageError as error:
            self._writable = False
            self._warn(f"the history is not kept: {error}")


def typed_texts(content: bytes) -> list[str]:
    r"""What was typed, in order, in (the end of) a file.

    >>> typed_texts(b"\n# 2026-01-02\n+models\n\n# 2026-01-03\n+load 'a\n+b'\n")
    ['models', "load 'a\nb'"]
    """
    texts: list[list[str]] = []
    follows = False
    for line in content.decode(errors="replace").split("\n"):
        if line.startswith("+"):
            if not follows:
                texts.append([])
            texts[-1].append(line[1:])
        follows = line.startswith("+")
    return ["\n".join(text) for text in texts]


def _create_private(path: Path) -> None:
    if path.exists():
        return
    files.make_folder(path.parent)
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
    with storage_errors("create", path):
        os.close(files.os_calls.open(path, flags, 0o600))
