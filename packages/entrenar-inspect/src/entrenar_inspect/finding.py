"""What a validation finds: the rules, what broke one, and how a check of several rules ended."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum


class Status(StrEnum):
    """How a check ended; of a finding, WARNING or PROBLEM."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"
    SKIPPED = "skipped"


_P, _W = Status.PROBLEM, Status.WARNING

RULES: dict[str, tuple[Status, str]] = {
    "V101": (_P, "a file breaks the rules of its format"),
    "V102": (_P, "a file is shorter than its own header says, or empty"),
    "V103": (_P, "a file is something else than weights, or than its name says"),
    "V104": (_P, "a file has what this version cannot read"),
    "V105": (_P, "a file changed while it was read, or a checksum inside it is wrong"),
    "V106": (_P, "config.json or another JSON file of the model cannot be read"),
    "V111": (_P, "a shard or a part of the model is missing"),
    "V112": (_P, "a tensor is not in the shard that the index says"),
    "V113": (_W, "a tensor is in a shard, and not in the index"),
    "V114": (_W, "the index says another size than the tensors take"),
    "V115": (_P, "the index leads out of the folder, or cannot be read"),
    "V116": (_P, "a tensor is in two shards"),
    "V121": (_P, "a file has another content than its recorded hash"),
    "V122": (_P, "a file has another size than is recorded, or is missing"),
    "V123": (_P, "the record of hashes was altered or cannot be read"),
    "V131": (_P, "loading the weights would run code, or they were made to mislead"),
    "V132": (_W, "another pickle in the folder would call something when loaded"),
    "V133": (_W, "the model brings Python code of its own"),
    "V134": (_P, "a name has control characters"),
    "V201": (_P, "a tensor is missing"),
    "V202": (_P, "a tensor is there that the architecture does not have"),
    "V203": (_P, "a tensor has another shape than follows from the config"),
    "V204": (_W, "the config says tied, and the file has both, with different values"),
    "V205": (_W, "the config says not tied, and there is no output matrix"),
    "V206": (_P, "the tensors are no model of the architecture that the file names"),
    "V211": (_P, "a block is missing between others"),
    "V212": (_P, "sizes of the tensors contradict the config, or each other"),
    "V213": (_W, "a block lacks tensors that the others have"),
    "V214": (_W, "one block has a tensor of another shape than all others"),
    "V221": (_P, "a part of a quantized tensor is missing"),
    "V222": (_W, "a tensor has another type of elements than its like"),
    "V223": (_P, "a tensor has another type of elements than its like and than the config says"),
    "V224": (_W, "the config says another 16-bit type than the file has"),
    "V231": (_P, "the adapter's config and tensors contradict each other"),
    "V232": (_P, "the adapter's tensors do not fit together"),
    "V301": (_P, "a token's id is beyond the embedding"),
    "V302": (_W, "a special token's id is beyond the embedding"),
    "V303": (_P, "the tokenizer cannot be read"),
    "V401": (_P, "a tensor has NaN"),
    "V402": (_P, "a tensor has infinities"),
    "V403": (_P, "a number is far out of its tensor's range: it looks like a flipped bit"),
    "V404": (_W, "a number is well out of its tensor's range"),
    "V405": (_W, "a matrix is zero or constant"),
    "V406": (_P, "the scale of a block is not finite, or absurd"),
    "V407": (_W, "a tensor's spread is unlike that of its kind: a wrong type, or damaged"),
}
"""Every rule by its id: how bad it is when it is broken, and what it is then."""


@dataclass(frozen=True)
class Finding:
    """What broke a rule: in which tensor and which file, and where there.

    place: an index of an element, a block or a byte, in words.
    """

    rule: str
    message: str
    status: Status
    tensor: str | None = None
    file: str | None = None
    place: str | None = None


def broken(
    rule: str,
    message: str,
    *,
    tensor: str | None = None,
    file: str | None = None,
    place: str | None = None,
) -> Finding:
    """The finding that a rule was broken, as bad as the rule says."""
    return Finding(rule, message, RULES[rule][0], tensor, file, place)


@dataclass(frozen=True)
class Check:
    """How one check ended; note: what was looked at, or why it was skipped."""

    id: str
    title: str
    status: Status
    note: str
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True)
class Looked:
    """What a check gives: what it looked at, in words, and what it found there."""

    note: str
    findings: Iterable[Finding] = ()


@dataclass(frozen=True)
class Skipped:
    """What a check gives that has nothing to look at: why."""

    why: str


def as_check(name: str, title: str, outcome: Looked | Skipped) -> Check:
    """The record of what a check gave."""
    if isinstance(outcome, Skipped):
        return Check(name, title, Status.SKIPPED, outcome.why)
    found = tuple(outcome.findings)
    return Check(name, title, worst(finding.status for finding in found), outcome.note, found)


def worst(statuses: Iterable[Status]) -> Status:
    """The worst of them; OK where there are none.

    >>> str(worst([Status.OK, Status.WARNING, Status.SKIPPED]))
    'warning'
    """
    order = (Status.SKIPPED, Status.OK, Status.WARNING, Status.PROBLEM)
    return max([Status.OK, *statuses], key=order.index)


def stricter(check: Check) -> Check:
    """The check with its warnings as problems."""
    if not check.findings:
        return check
    found = tuple(replace(finding, status=Status.PROBLEM) for finding in check.findings)
    return replace(check, status=Status.PROBLEM, findings=found)
