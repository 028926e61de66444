"""huggingface_hub's progress bars: for people who watch, and for nobody else."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def bars_only_on_a_terminal() -> Iterator[None]:
    """Switches them off in the body, unless a terminal shows them or a setting asks for them."""
    from huggingface_hub import utils

    asked_for = "HF_HUB_DISABLE_PROGRESS_BARS" in os.environ
    if asked_for or utils.are_progress_bars_disabled() or sys.stderr.isatty():
        yield
        return
    utils.disable_progress_bars()
    try:
        yield
    finally:
        utils.enable_progress_bars()


@contextmanager
def closed_bars() -> Iterator[type]:
    """A class of bars, each of which is at its end when the body is: huggingface_hub leaves one
    open, which would end itself in the middle of what is printed next."""
    from huggingface_hub.utils import tqdm

    made: list[tqdm] = []

    class Bar(tqdm):
        def __init__(self, *args: Any, **settings: Any) -> None:
            super().__init__(*args, **settings)
            made.append(self)

    try:
        yield Bar
    finally:
        for bar in made:
            bar.close()
