"""Whether loading a model elsewhere would run code."""

from collections.abc import Iterator
from pathlib import Path

from entrenar_common.errors import EntrenarError
from entrenar_common.text import escape_controls
from entrenar_core.io.os_calls import read_errors
from entrenar_inspect.artifact import PYTORCH
from entrenar_inspect.finding import Finding, Looked, broken
from entrenar_inspect.pickled import called_by, is_pickle
from entrenar_inspect.subject import Subject

_PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib")
_SHOWN = 6


def check_security(subject: Subject) -> Looked:
    """Pickles among and beside the weights, Python code, and names that hide something.

    Weights that call something are refused by their reader; that finding is the header's.
    """
    found = list(_weights(subject))
    beside = _beside(subject)
    for path in beside:
        if called := called_by(path):
            message = f"{subject.shown(path)} would call {_listed(called)} when it is loaded"
            found.append(broken("V132", message, file=subject.shown(path)))
    found += _code(subject)
    note = (
        "weights in a pickle that calls nothing" if _in_pickle(subject) else "no pickle of weights"
    )
    return Looked(note + (f", {len(beside)} other pickles" if beside else ""), found)


def _in_pickle(subject: Subject) -> bool:
    return subject.artifact is not None and subject.artifact.kind == PYTORCH


def _weights(subject: Subject) -> Iterator[Finding]:
    """What weights that were refused would call, all of it: a reader stops at the first name."""
    for path in subject.failed:
        if is_pickle(path) and (called := called_by(path)):
            shown = subject.shown(path)
            message = f"{shown} would call {_listed(called)} when it is loaded"
            yield broken("V131", message, file=shown)


def _beside(subject: Subject) -> list[Path]:
    """Other files of the folder that may be pickles."""
    if subject.given is not None:
        return []
    with read_errors(subject.folder):
        every = sorted(path for path in subject.folder.iterdir() if path.is_file())
    own = {*subject.weights}
    return [p for p in every if p.suffix in _PICKLES and p not in own and is_pickle(p)]


def _code(subject: Subject) -> Iterator[Finding]:
    if subject.given is not None:
        return
    try:
        config = subject.beside("config.json")
    except EntrenarError:  # the header's check has it
        config = None
    named = config.get("auto_map") if isinstance(config, dict) else None
    if named:
        classes = named.values() if isinstance(named, dict) else [named]
        shown = escape_controls(", ".join(str(each) for each in classes)[:200])
        message = f"config.json names code of the model's own: {shown}"
        yield broken("V133", message, file="config.json", place="auto_map")
    for path in sorted(subject.folder.glob("*.py")):
        shown = subject.shown(path)
        yield broken("V133", f"{shown} is Python code beside the weights", file=shown)


def _listed(names: list[str]) -> str:
    shown = ", ".join(escape_controls(name[:80]) for name in names[:_SHOWN])
    more = len(names) - _SHOWN
    return f"{shown} and {more} more" if more > 0 else shown
