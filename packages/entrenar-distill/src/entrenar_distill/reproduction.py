"""What it takes to get the same student again."""

import shutil
import sys
from importlib.metadata import version
from pathlib import Path

from entrenar_distill.config import DistillConfig, config_hash
from entrenar_distill.next_steps import command
from entrenar_distill.report import Reproduction
from entrenar_distill.run_folder import RunFolder

PACKAGES = ("entrenar-distill", "entrenar-core", "numpy", "numba", "tokenizers")
"""Whose versions can change a bit of the result."""


def reproduction(config: DistillConfig, folder: RunFolder) -> Reproduction:
    """For a run of `config` in `folder`, which was opened for it."""
    words = [program(), "run", "--config", str(folder.config), "--output", f"{folder.path}-again"]
    return Reproduction(
        command=command("run the same configuration in another folder", words),
        config_hash=config_hash(config),
        inputs=folder.inputs,
        versions={name: version(name) for name in PACKAGES},
    )


def program() -> str:
    """How entrenar-distill is started here: its path in an environment that is not activated."""
    tool = "entrenar-distill"
    beside = Path(sys.executable).with_name(tool)
    return str(beside) if shutil.which(tool) is None and beside.exists() else tool
