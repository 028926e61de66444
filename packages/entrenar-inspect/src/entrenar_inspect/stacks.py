"""The blocks of a model: stacks of them, and what is the same in each."""

from collections import Counter
from dataclasses import dataclass

from entrenar_inspect.artifact import Artifact, Entry
from entrenar_inspect.recognise import block_of

TYPICAL_TENSORS = 4
"""A block of a model has at least so many tensors; items of a list of layers have fewer."""


@dataclass(frozen=True)
class Stack:
    """Blocks one after the other: name: what is before a block's number; blocks: its tensors by
    what is after the number, by the block's number."""

    name: str
    blocks: dict[int, dict[str, Entry]]

    @property
    def typical(self) -> frozenset[str]:
        """The set of tensors that more than half of the blocks have; empty where none is such."""
        kinds = Counter(frozenset(block) for block in self.blocks.values())
        most, count = kinds.most_common(1)[0]
        usual = 2 * count > len(self.blocks) and len(most) >= TYPICAL_TENSORS
        return most if usual else frozenset()

    def kinds(self) -> dict[str, dict[int, Entry]]:
        """The tensors of the blocks by what they are called in them, then by block."""
        found: dict[str, dict[int, Entry]] = {}
        for number, block in self.blocks.items():
            for rest, entry in block.items():
                found.setdefault(rest, {})[number] = entry
        return found


def stacks_of(artifact: Artifact) -> list[Stack]:
    """All stacks, in the order of their first tensors."""
    found: dict[str, dict[int, dict[str, Entry]]] = {}
    for name, entry in artifact.tensors.items():
        block = block_of(name)
        if block is not None:
            prefix, number, rest = block
            found.setdefault(prefix, {}).setdefault(number, {})[rest] = entry
    return [Stack(name, dict(sorted(blocks.items()))) for name, blocks in found.items()]
