"""The tensors of a model as the tree of their names, in which parts that are alike become one."""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from entrenar_inspect.artifact import Entry

_DIGITS = re.compile(r"(\d+)")


def natural(name: str) -> tuple[Any, ...]:
    """What names are ordered by: numbers in them by their size.

    >>> sorted(["layers.10", "layers.9"], key=natural)
    ['layers.9', 'layers.10']
    """
    return tuple(int(part) if part.isdigit() else part for part in _DIGITS.split(name))


@dataclass
class Node:
    """A module, or a tensor where there is an `entry`; `name` is the last part of its name."""

    name: str
    entry: Entry | None = None
    children: dict[str, "Node"] = field(default_factory=dict)

    @cached_property
    def entries(self) -> list[Entry]:
        """Its tensors, those of its children too."""
        own = [] if self.entry is None else [self.entry]
        return own + [entry for child in self.children.values() for entry in child.entries]

    @cached_property
    def elements(self) -> int:
        """How many numbers it has; those of a tensor that is another one's memory do not count."""
        return sum(entry.elements for entry in self.entries if entry.same_as is None)

    @cached_property
    def nbytes(self) -> int:
        """The bytes of its tensors, counted as `elements` are."""
        return sum(entry.nbytes for entry in self.entries if entry.same_as is None)

    @cached_property
    def likeness(self) -> tuple[Any, ...]:
        """Equal for two nodes whose tensors have the same names within them, types and shapes."""
        own = None if self.entry is None else (self.entry.dtype, self.entry.shape)
        inner = sorted((name, child.likeness) for name, child in self.children.items())
        return own, tuple(inner)


def tree_of(entries: Iterable[Entry]) -> Node:
    """The tree of the tensors' names, split at their dots."""
    root = Node("")
    for entry in entries:
        node = root
        for part in entry.name.split("."):
            node = node.children.setdefault(part, Node(part))
        node.entry = entry
    return root


@dataclass(frozen=True)
class Row:
    """A line of the tree: a module or a tensor, or `count` of them that are alike, of which
    `node` is the first, with the numbers of all of them. `members` has the tensors it stands for,
    those of the modules above it that are alike too."""

    depth: int
    name: str
    node: Node
    count: int
    elements: int
    nbytes: int
    members: tuple[Entry, ...]


Order = Callable[[str, int, int], Any]
"""What things are ordered by: from a name, how many numbers and how many bytes."""

ORDERS: dict[str, Order] = {
    "name": lambda name, _numbers, _nbytes: natural(name),
    "params": lambda name, numbers, _nbytes: (-numbers, natural(name)),
    "memory": lambda name, _numbers, nbytes: (-nbytes, natural(name)),
}
"""What modules that lie in one, and tensors, are ordered by."""


def rows_of(root: Node, *, order: Order | None, collapse: bool) -> Iterator[Row]:
    """The lines of a tree, from its first module on; `order` None is that of the files.

    With `collapse`, numbered modules that are alike are one line, with what is in one of them
    below it.
    """
    yield from _below([root], -1, order, collapse)


def _below(alike: list[Node], depth: int, order: Order | None, collapse: bool) -> Iterator[Row]:
    """The lines below nodes that are alike, told by the first of them."""
    for group in _groups(alike[0], order, collapse):
        members = [node.children[child.name] for node in alike for child in group]
        name, count = _name_of(group), len(group)
        while group[0].entry is None and len(inner := _groups(group[0], order, collapse)) == 1:
            (group,) = inner
            members = [member.children[child.name] for member in members for child in group]
            name, count = f"{name}.{_name_of(group)}", count * len(group)
            if count > 1:
                break  # what is in one of them is below it
        shown = members[: len(members) // len(alike)]
        yield Row(
            depth + 1,
            name,
            group[0],
            count,
            sum(node.elements for node in shown),
            sum(node.nbytes for node in shown),
            tuple(member.entry for member in members if member.entry is not None),
        )
        yield from _below(members, depth + 1, order, collapse)


def _groups(node: Node, order: Order | None, collapse: bool) -> list[list[Node]]:
    """The children of a node one by one, but numbered ones that are alike together, where the first
    of them is."""
    children = list(node.children.values())
    if order is not None:
        children.sort(key=lambda child: order(child.name, child.elements, child.nbytes))
    if not collapse:
        return [[child] for child in children]
    groups: dict[tuple[Any, ...], list[Node]] = {}
    for child in children:
        key = ("alike", child.likeness) if child.name.isdigit() else ("one", child.name)
        groups.setdefault(key, []).append(child)
    return list(groups.values())


def _name_of(group: list[Node]) -> str:
    if len(group) == 1:
        return group[0].name
    return f"[{ranges(int(node.name) for node in group)}]"


def ranges(numbers: Iterable[int]) -> str:
    """Whole numbers in words.

    >>> ranges([0, 1, 2, 5, 7, 8])
    '0-2, 5, 7-8'
    """
    found: list[list[int]] = []
    for number in sorted(numbers):
        if found and number == found[-1][1] + 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return ", ".join(f"{a}" if a == b else f"{a}-{b}" for a, b in found)
