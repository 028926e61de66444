"""Whether the numbers of tensors are what trained or fresh weights can be.

What a damaged file looks like: a flipped bit in an exponent multiplies a number by 2 to a power of
2, a float16 that is read as a bfloat16 (or the reverse) has another scale altogether, a hole is
zeros. The bounds are far from what models have; benchmarks/validate_corpus.py measures how far.
"""

from collections.abc import Iterator
from math import prod, sqrt
from statistics import median

import numpy as np

from entrenar_common.errors import NotFoundError, UnsupportedError
from entrenar_common.progress import NullProgress, Progress
from entrenar_common.text import escape_controls
from entrenar_core.quant import BlockArray
from entrenar_inspect.artifact import Artifact, Entry
from entrenar_inspect.block_scales import scale_finding
from entrenar_inspect.check_files import READ_ERRORS, of_error
from entrenar_inspect.distribution import Values
from entrenar_inspect.finding import Finding, Looked, Skipped, broken
from entrenar_inspect.parameters import EMBEDDINGS, HEADS
from entrenar_inspect.places import Place, place_of
from entrenar_inspect.stacks import stacks_of
from entrenar_inspect.subject import Subject
from entrenar_inspect.values import as_plain, decoded, flat_pieces, values_of

FLIPPED, FLIPPED_LEAST = 1000.0, 1000.0
"""A number this many times the usual size of its tensor's, and above this size, is an error: no
model is trained to it, and of the flips in an exponent's upper bits nearly all lead beyond."""
OUTLYING, OUTLYING_LEAST = 200.0, 10.0
"""The same of what is only odd. The largest weights of language models reach some 50 times."""
SPREAD = 50.0
"""How many times a matrix's deviation may be that of the other blocks', or the reverse."""
_PEERS = 4
_LARGE = 10_000
"""Elements from which on a thousandth of them is enough to say what is usual."""
_FEW = 8
_CONSTANT_LEAST = 8
"""A matrix with fewer rows or columns may be constant: a switch, a token, a bias by head."""
_INTEGERS = ("I8", "I16", "I32", "I64", "U", "BOOL")
_LORA_B = (".lora_B", ".lora_embedding_B")


def check_values(subject: Subject, progress: Progress | None = None) -> Looked | Skipped:
    """NaN, infinities, numbers out of range and constant matrices; reads every tensor once."""
    artifact = subject.artifact
    if artifact is None:
        return Skipped("not every file opens")
    progress = progress or NullProgress()
    every = [entry for entry in artifact.tensors.values() if entry.same_as is None]
    progress.start("values", sum(entry.nbytes for entry in every))
    found: list[Finding] = []
    known: dict[str, Values] = {}
    undecoded = 0
    for entry in every:
        if _has_floats(entry):
            try:
                values = values_of(artifact, entry.name)
            except NotFoundError:  # a shard has it, and the index does not
                continue
            except UnsupportedError:  # elements of less than a byte
                undecoded += 1
                continue
            except READ_ERRORS as error:
                found.append(of_error(error, entry.file, tensor=entry.name))
                continue
            undecoded += values is None
            if values is not None:
                known[entry.name] = values
                found += _of_tensor(artifact, entry, values)
            artifact.release(entry.name)
        progress.advance(entry.nbytes)
    progress.finish()
    found += _of_kinds(artifact, known)
    note = f"{sum(v.elements for v in known.values()):,} numbers in {len(known):,} tensors"
    return Looked(note + (f", {undecoded} not decoded here" if undecoded else ""), found)


def _has_floats(entry: Entry) -> bool:
    """Whether it has floats, plain or in blocks: of integers every value is one."""
    return entry.elements > 0 and not entry.dtype.startswith(_INTEGERS)


def _of_tensor(artifact: Artifact, entry: Entry, values: Values) -> Iterator[Finding]:
    array = artifact.read(entry.name)
    scale = scale_finding(entry, array) if isinstance(array, BlockArray) else None
    if scale is not None:
        yield scale
    elif values.not_finite:
        yield from _not_finite(entry, values)
    elif not _may_be_infinite(entry):
        finding = _far_out(artifact, entry, values)
        if finding is not None:
            yield finding


def _may_be_infinite(entry: Entry) -> bool:
    """Masks, added to scores before a softmax, have the most negative number there is, and a bound
    that does not bind is infinite."""
    last = entry.name.rpartition(".")[2]
    return "mask" in last or last.endswith(("_min", "_max"))


def _not_finite(entry: Entry, values: Values) -> Iterator[Finding]:
    if _may_be_infinite(entry) and not values.nans:
        return
    assert values.first_bad is not None
    at = place_of(entry.shape, values.first_bad)
    shown = escape_controls(entry.name)
    for rule, what, count in (
        ("V401", "NaN", values.nans), ("V402", "infinite numbers", values.infinities)
    ):  # fmt: skip
        if count:
            where = f"the first number that is not finite is {at}"
            message = f"{shown}: {count} {what} among {values.elements} numbers, {where}"
            yield broken(rule, message, tensor=entry.name, file=entry.file, place=str(at))


def _far_out(artifact: Artifact, entry: Entry, values: Values) -> Finding | None:
    largest, usual = largest_and_usual(values)
    times = largest / usual if usual else np.inf
    large = len(entry.shape) >= 2 and values.elements >= _LARGE and usual > 0
    if values.elements < _FEW:
        return None
    if times > FLIPPED and largest > FLIPPED_LEAST:
        rule, seems = "V403", ": it looks like a flipped bit"
    elif large and times > OUTLYING and largest > OUTLYING_LEAST:
        rule, seems = "V404", ""
    else:
        return None
    at = _place_of_largest(artifact, entry)
    compared = f"{times:.3g} times the usual size" if usual else "and the others are zero"
    message = f"{escape_controls(entry.name)}: {at} has the size {largest:.4g}, {compared}{seems}"
    return broken(rule, message, tensor=entry.name, file=entry.file, place=str(at))


def largest_and_usual(values: Values) -> tuple[float, float]:
    """The largest magnitude, and the size of large numbers of the tensor: the 0.999 quantile, or,
    where a thousandth of it is not a handful, the root of the mean square of all but the largest.
    """
    largest = max(abs(values.minimum or 0.0), abs(values.maximum or 0.0))
    if values.elements >= _LARGE and values.typical:
        return largest, values.typical
    rest = max((values.norm or 0.0) ** 2 - largest**2, 0.0)
    return largest, sqrt(rest / max(values.elements - 1, 1))


def _place_of_largest(artifact: Artifact, entry: Entry) -> Place:
    """Where the number of the largest magnitude is; reads the tensor again."""
    array = artifact.read(entry.name)
    if isinstance(array, BlockArray):
        array = as_plain(array)
    parts = decoded(array) if isinstance(array, BlockArray) else flat_pieces(array)
    start, best, at = 0, -1.0, 0
    for part in parts:
        sizes = np.abs(part.astype(np.complex64 if part.dtype.kind == "c" else np.float64))
        largest = int(sizes.argmax()) if sizes.size else 0
        if sizes.size and sizes[largest] > best:
            best, at = float(sizes[largest]), start + largest
        start += part.size
    return place_of(entry.shape, at)


def _of_kinds(artifact: Artifact, known: dict[str, Values]) -> Iterator[Finding]:
    """What can be said of a tensor beside those of the same name in other blocks."""
    in_stacks: dict[str, list[Values]] = {}
    for stack in stacks_of(artifact):
        for of_block in stack.kinds().values():
            names = [entry.name for entry in of_block.values() if entry.name in known]
            for name in names:
                in_stacks[name] = [known[other] for other in names if other != name]
    for name, values in known.items():
        entry, others = artifact.tensors[name], in_stacks.get(name, [])
        if _is_matrix(entry) and not values.not_finite:
            finding = _constant(entry, values, others) or _spread(entry, values, others)
            if finding is not None:
                yield finding


def _is_matrix(entry: Entry) -> bool:
    """Whether it is a matrix that something is multiplied with, and not a table or a switch."""
    return (
        len(entry.shape) >= 2
        and entry.shape[0] >= _CONSTANT_LEAST
        and prod(entry.shape[1:]) >= _CONSTANT_LEAST
        and not _may_be_infinite(entry)
    )


def _constant(entry: Entry, values: Values, others: list[Values]) -> Finding | None:
    """A matrix of one number, unless all of its kind are: some models begin with zeros."""
    if not values.constant or any(end in entry.name for end in _LORA_B):
        return None
    if not others and not entry.name.endswith((*EMBEDDINGS, *HEADS)):
        return None
    if others and all(other.constant for other in others):
        return None
    message = f"{escape_controls(entry.name)}: all {values.elements} numbers are "
    message += f"{values.minimum:g}" + (", those of the other blocks are not" if others else "")
    return broken("V405", message, tensor=entry.name, file=entry.file)


def _spread(entry: Entry, values: Values, others: list[Values]) -> Finding | None:
    spreads = [other.deviation for other in others if other.deviation]
    if len(spreads) < _PEERS - 1 or not values.deviation:
        return None
    usual = median(spreads)
    times = max(values.deviation / usual, usual / values.deviation)
    if times <= SPREAD:
        return None
    message = f"{escape_controls(entry.name)}: its deviation is {values.deviation:.3g}, that of "
    message += f"the other blocks {usual:.3g}"
    return broken("V407", message, tensor=entry.name, file=entry.file)
