"""Whether a model's blocks are all there and alike, where nothing says what they should be.

Models of many kinds are right that look wrong: blocks of two kinds take turns, the first has no
norm (ModernBERT) or an embedding of distances besides (T5), widths grow from stage to stage. So a
rule holds only where more than half of the blocks are alike, and inner blocks are compared.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Any

from entrenar_common.text import escape_controls
from entrenar_inspect.artifact import Artifact, Entry
from entrenar_inspect.finding import Finding, broken
from entrenar_inspect.stacks import Stack, stacks_of

_ALIKE = 0.75
"""The share of blocks that have to have the same tensors for one that has fewer to stand out."""
_LEAST = 4
"""Blocks that it takes to say that one of them stands out."""

_LEAST_FOR_SHAPES = 12
"""The same of a shape: every fourth or sixth block may be of another kind."""
_POSITIONS = "pos"
"""What is in the names of tables of positions: their sizes follow the window of their block."""


def block_findings(artifact: Artifact) -> Iterator[Finding]:
    """Missing blocks, missing tensors of a block, and shapes that one block has alone."""
    kinds = _layer_types(artifact.config)
    for stack in stacks_of(artifact):
        yield from _gaps(stack)
        yield from _lacking(stack)
        yield from _odd_shapes(stack, kinds)


def _layer_types(config: Any) -> list[str]:
    """What kind each block is of, where the config lists it."""
    inner = config.get("text_config")
    for part in (config, inner if isinstance(inner, dict) else {}):
        found = part.get("layer_types")
        if isinstance(found, list):
            return [str(each) for each in found]
    return []


def _gaps(stack: Stack) -> Iterator[Finding]:
    numbers = list(stack.blocks)
    missing = sorted(set(range(numbers[-1])) - set(numbers))
    if missing and stack.typical:
        shown = ", ".join(map(str, missing[:5])) + (", …" if len(missing) > 5 else "")
        name = escape_controls(stack.name)
        message = f"{name}: no block {shown}, and blocks up to {numbers[-1]} are there"
        yield broken("V211", message, place=f"{name}.{missing[0]}")


def _inner(stack: Stack) -> list[int]:
    """The blocks between the first and the last, which often differ from all others."""
    return list(stack.blocks)[1:-1]


def _lacking(stack: Stack) -> Iterator[Finding]:
    typical = stack.typical
    alike = sum(block.keys() == typical for block in stack.blocks.values())
    if not typical or len(stack.blocks) < _LEAST or alike < _ALIKE * len(stack.blocks):
        return
    for number in _inner(stack):
        block = stack.blocks[number]
        if block.keys() < typical:
            lacking = sorted(typical - block.keys())
            name = escape_controls(f"{stack.name}.{number}")
            message = f"{name} has no {escape_controls(lacking[0])}"
            message += f" nor {len(lacking) - 1} others" if len(lacking) > 1 else ""
            yield broken("V213", f"{message}, as the other blocks have", place=name)


def _odd_shapes(stack: Stack, layer_types: list[str]) -> Iterator[Finding]:
    for rest, of_block in stack.kinds().items():
        if _POSITIONS in rest:
            continue
        groups: dict[str, dict[int, Entry]] = {}
        for number, entry in of_block.items():
            kind = layer_types[number] if number < len(layer_types) else ""
            groups.setdefault(kind, {})[number] = entry
        for group in groups.values():
            yield from _odd_one(rest, group, _inner(stack))


def _odd_one(rest: str, group: dict[int, Entry], inner: list[int]) -> Iterator[Finding]:
    counts = Counter(entry.shape for entry in group.values())
    if len(group) < _LEAST or len(counts) != 2:
        return
    (usual, _), (odd, times) = counts.most_common(2)
    number = next(number for number, entry in group.items() if entry.shape == odd)
    turned = sorted(usual) == sorted(odd)
    alone = number in inner and len(group) >= _LEAST_FOR_SHAPES
    if times == 1 and (turned or alone):
        entry = group[number]
        message = f"{escape_controls(entry.name)} is {list(odd)}, {escape_controls(rest)} of the "
        message += f"other blocks is {list(usual)}"
        yield broken("V214", message, tensor=entry.name, file=entry.file)
