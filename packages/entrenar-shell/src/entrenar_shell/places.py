"""Where the shell keeps what outlives it: folders of the XDG Base Directory Specification 0.8."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["sessions_folder", "state_folder"]


def sessions_folder() -> Path | None:
    """Of the saved sessions: `entrenar/sessions` in `$XDG_DATA_HOME`, else in `~/.local/share`.
    None where neither that nor `$HOME` is set."""
    return _own("XDG_DATA_HOME", ".local/share", "sessions")


def state_folder() -> Path | None:
    """Of the history of typed lines and of the logs of jobs: `entrenar` in `$XDG_STATE_HOME`, else
    in `~/.local/state`. None where neither that nor `$HOME` is set."""
    return _own("XDG_STATE_HOME", ".local/state", "")


def _own(variable: str, below_home: str, name: str) -> Path | None:
    base, home = os.environ.get(variable, ""), os.environ.get("HOME", "")
    if base.startswith("/"):  # the specification has relative ones ignored
        return Path(base, "entrenar", name)
    return Path(home, below_home, "entrenar", name) if home.startswith("/") else None
