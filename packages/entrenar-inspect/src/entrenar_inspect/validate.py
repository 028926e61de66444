"""One verdict on a model: every check, how it ended and what it found."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from enum import StrEnum
from threading import Event

from entrenar_common.errors import UnsupportedError
from entrenar_common.progress import NullProgress, Progress
from entrenar_inspect.check_files import check_header, check_index
from entrenar_inspect.check_hashes import check_hashes, check_sizes, records_of
from entrenar_inspect.check_security import check_security
from entrenar_inspect.finding import Check, Looked, Skipped, Status, as_check, stricter, worst
from entrenar_inspect.hub_place import HUB
from entrenar_inspect.subject import Subject, open_subject


class Depth(StrEnum):
    """How far a validation looks: each depth has what those before it have."""

    HEADER = "header"
    STRUCTURE = "structure"
    VALUES = "values"

    def reaches(self, other: "Depth") -> bool:
        """Whether what needs the depth `other` is looked at."""
        order = list(Depth)
        return order.index(self) >= order.index(other)


@dataclass(frozen=True)
class Verdict:
    """What a validation says.

    model: as it was given; valid: whether nothing is wrong; strict: whether warnings count as
    problems; problems and warnings: how many findings of each there are.
    """

    model: str
    valid: bool
    strict: bool
    depth: Depth
    problems: int
    warnings: int
    checks: tuple[Check, ...]


def _structure(subject: Subject) -> Looked | Skipped:
    from entrenar_inspect.check_structure import check_structure  # with all of core's models

    return check_structure(subject)


def _tokenizer(subject: Subject) -> Looked | Skipped:
    from entrenar_inspect.check_tokenizer import check_tokenizer

    return check_tokenizer(subject)


_CHECKS: tuple[tuple[str, str, Depth, Callable[[Subject], Looked | Skipped]], ...] = (
    ("header", "files open", Depth.HEADER, check_header),
    ("index", "index of shards", Depth.HEADER, check_index),
    ("security", "no code", Depth.HEADER, check_security),
    ("structure", "tensors and config agree", Depth.STRUCTURE, _structure),
    ("tokenizer", "tokens have rows", Depth.STRUCTURE, _tokenizer),
)
"""Checks by id: what holds when they pass, from which depth on, and what looks."""


def validate(
    spec: str,
    *,
    depth: Depth = Depth.VALUES,
    strict: bool = False,
    progress: Progress | None = None,
) -> Verdict:
    """Looks for all that can be wrong with a model, an adapter or a file of tensors.

    Defects are findings and not errors. Raises NotFoundError where there is nothing, ConfigError
    where it is not clear what is meant, UnsupportedError for what lies on the hub.
    """
    if spec.startswith(HUB):
        raise UnsupportedError(
            f"{spec}: on the hub, and only files on this machine are validated",
            hint="fetch it first, with hf download, and give the folder",
        )
    with closing(open_subject(spec)) as subject:
        checks = [as_check(*check) for check in _ran(subject, depth, progress or NullProgress())]
    if strict:
        checks = [stricter(check) for check in checks]
    statuses = [finding.status for check in checks for finding in check.findings]
    return Verdict(
        spec,
        worst(statuses) is not Status.PROBLEM,
        strict,
        depth,
        statuses.count(Status.PROBLEM),
        statuses.count(Status.WARNING),
        tuple(checks),
    )


def _ran(
    subject: Subject, depth: Depth, progress: Progress
) -> Iterator[tuple[str, str, Looked | Skipped]]:
    for name, title, least, check in _CHECKS:
        skipped = Skipped(f"needs --depth {least}")
        yield name, title, check(subject) if depth.reaches(least) else skipped
    if depth.reaches(Depth.VALUES):
        hashes, values = _content(subject, progress)
    else:
        hashes = check_sizes(records_of(subject))
        values = Skipped(f"needs --depth {Depth.VALUES}")
    yield "hashes", "content is as recorded", hashes
    yield "values", "numbers are sound", values


def _content(subject: Subject, progress: Progress) -> tuple[Looked | Skipped, Looked | Skipped]:
    """Hashes and values at once: one waits for the disk and the other for the processor."""
    from entrenar_inspect.check_values import check_values

    records, stop = records_of(subject), Event()
    with ThreadPoolExecutor(1, "hashes") as beside:
        hashes = beside.submit(check_hashes, records, stop)
        try:
            values = check_values(subject, progress)
            return hashes.result(), values
        except BaseException:
            stop.set()
            raise
