"""What the tape holds: the arrays that backward() will need, by the operation that kept them."""

import gc
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import FunctionType
from typing import Any

import numpy as np

from entrenar_common.units import format_bytes
from entrenar_core.autograd.tape import Node, Vjp
from entrenar_core.autograd.tensor import Tensor


@dataclass
class HeldByOp:
    """The arrays that the recorded calls of one operation keep alive."""

    op: str
    calls: int = 0
    arrays: int = 0
    bytes: int = 0


@dataclass
class MemoryReport:
    """What all graphs that have not been walked hold, largest first.

    Memory that belongs to a leaf (a parameter, an input tensor) is not counted, and memory that
    several operations share counts for the first.
    """

    ops: list[HeldByOp] = field(default_factory=list)

    @property
    def bytes(self) -> int:
        return sum(row.bytes for row in self.ops)

    def __str__(self) -> str:
        lines = [f"{'op':<24}{'calls':>7}{'arrays':>8}{'held':>12}"]
        rows = [*self.ops, HeldByOp("all", *self._totals())]
        lines += [
            f"{row.op:<24}{row.calls:>7}{row.arrays:>8}{format_bytes(row.bytes):>12}"
            for row in rows
        ]
        return "\n".join(lines)

    def _totals(self) -> tuple[int, int, int]:
        return sum(r.calls for r in self.ops), sum(r.arrays for r in self.ops), self.bytes


def memory_report() -> MemoryReport:
    """A `MemoryReport` of everything recorded and not yet walked or forgotten.

    It looks through all objects of the process, which takes some tenths of a second: a tool for
    looking, not for every step.

    >>> x = Tensor(np.ones((1000, 1000), np.float32), requires_grad=True)
    >>> y = (x * x).sum()
    >>> memory_report().ops[0].op
    'mul'
    """
    objects = gc.get_objects()
    # isinstance would ask weak references for what they refer to, which may be gone
    tensors: list[Any] = [each for each in objects if issubclass(type(each), Tensor)]
    nodes: list[Any] = [each for each in objects if type(each) is Node]
    seen = {id(_owner(tensor.data)) for tensor in tensors if tensor.node is None}
    nodes.sort(key=lambda node: node.number)
    rows: dict[str, HeldByOp] = {}
    for node in nodes:
        if not node.vjps:
            continue
        row = rows.setdefault(node.name, HeldByOp(node.name))
        row.calls += 1
        for array in _arrays(node.vjps, set()):
            owner = _owner(array)
            if id(owner) not in seen:
                seen.add(id(owner))
                row.arrays += 1
                row.bytes += owner.nbytes
    return MemoryReport(sorted(rows.values(), key=lambda row: -row.bytes))


def _owner(array: Any) -> Any:
    while isinstance(array, np.ndarray) and isinstance(array.base, np.ndarray):
        array = array.base
    return array


def _arrays(value: Any, visited: set[int]) -> Iterator[np.ndarray]:
    """Every array that can be reached from the pullbacks of a node."""
    if id(value) in visited:
        return
    visited.add(id(value))
    if isinstance(value, Tensor):
        value = value.data
    if isinstance(value, np.ndarray):
        yield value
        return
    for part in _parts(value):
        yield from _arrays(part, visited)


def _parts(value: Any) -> list[Any]:
    if isinstance(value, Vjp):
        return [value.function]
    if isinstance(value, FunctionType):
        cells = value.__closure__ or ()
        return [cell.cell_contents for cell in cells if _filled(cell)]
    if isinstance(value, tuple | list):
        return list(value)
    if isinstance(value, dict):
        return list(value.values())
    return []


def _filled(cell: Any) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:  # a name that its function has not set yet
        return False
