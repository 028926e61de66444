"""Where a study's figures come from: versions, machine, and the revision of the code."""

from __future__ import annotations

import dataclasses
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from entrenar_bench import __version__
from entrenar_core.environment import environment

__all__ = ["Provenance", "provenance"]

_SECONDS = 10


@dataclass(frozen=True)
class Provenance:
    """The version of this package, the machine in words, and the revision of the folder's Git
    repository, with "+changes" where files differ from it; None where there is none."""

    version: str
    machine: dict[str, Any]
    revision: str | None

    def differences(self, other: Provenance) -> list[str]:
        """What changed from `other` to this, a line for each."""
        before, after = _flat(other), _flat(self)
        return [
            f"{name} is {after.get(name)}, and was {before.get(name)}"
            for name in sorted(before.keys() | after.keys())
            if before.get(name) != after.get(name)
        ]


def provenance(folder: str | os.PathLike[str] = ".") -> Provenance:
    """Of this process and of the repository that `folder` is in."""
    return Provenance(__version__, dataclasses.asdict(environment()), _revision(Path(folder)))


def _revision(folder: Path) -> str | None:
    commit = _git(folder, "rev-parse", "HEAD")
    if commit is None:
        return None
    changed = _git(folder, "status", "--porcelain", "--untracked-files=no")
    return f"{commit}+changes" if changed else commit


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", folder, *arguments],
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _flat(found: Provenance) -> dict[str, str | None]:
    return {"entrenar-bench": found.version, "revision": found.revision, **found.machine}
