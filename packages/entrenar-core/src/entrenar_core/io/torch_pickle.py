"""An interpreter for the pickles of state dicts that can do nothing but build inert values.

A pickle is a program for a small stack machine. `torch_opcodes` has what it may do; here it is run,
within limits, and has no other mode.
"""

from typing import Any

from entrenar_common.errors import FormatError, RefusedError, UnsupportedError
from entrenar_core.io.torch_opcodes import (
    MAX_OPERATIONS,
    OPERATIONS,
    Machine,
    Persistent,
    Source,
    fail,
    refuse,
)
from entrenar_core.io.torch_records import DAMAGED, Attributed

MAX_PICKLE_BYTES = 64 * 2**20
MAX_DEPTH = 64

PROTO, STOP = 0x80, ord(".")


def unpickle(
    data: Source, label: str, *, begin: int, end: int, persistent: Persistent | None = None
) -> tuple[Any, int]:
    """The value of the pickle that starts at `begin`, and where it stops, at `end` at most.

    `persistent` makes storages of what the pickle says of them; without it there are none. Raises
    FormatError (malformed), RefusedError (anything that a state dict has no use for, code above
    all), UnsupportedError (tensors that are not read here), each with `label` and the byte.
    """
    machine = Machine(data, begin, min(end, begin + MAX_PICKLE_BYTES), persistent)
    try:
        value = _run(machine)
        _check_nesting(value)
    except (FormatError, RefusedError, UnsupportedError) as error:
        raise type(error)(
            f"{label}: {error} (at byte {machine.at})", hint=error.hint or DAMAGED
        ) from None
    return value, machine.position


def _run(machine: Machine) -> Any:
    if machine.take(1)[0] != PROTO or not 2 <= machine.take(1)[0] <= 5:
        fail("not a pickle of protocol 2 to 5")
    data, end = machine.data, machine.end
    for _ in range(MAX_OPERATIONS):
        machine.at = machine.position
        if machine.at == end:
            fail("no end of the pickle: it is truncated")
        code = data[machine.at]
        machine.position += 1
        if code == STOP:
            value = machine.pop()
            if machine.stack or machine.below:
                fail("the pickle stops with values left over")
            return value
        operation = OPERATIONS.get(code)
        if operation is None:
            refuse(code)
        operation(machine)
    return fail(f"more than {MAX_OPERATIONS} operations")


def _check_nesting(value: Any) -> None:
    """No value that contains itself, and none nested more than MAX_DEPTH deep."""
    depth: dict[int, int] = {}  # by identity; 0 while what it contains is being looked at
    path = [value]
    while path:
        top = path[-1]
        if depth.get(id(top)):
            path.pop()
            continue
        inside = _containers(top)
        new = [item for item in inside if id(item) not in depth]
        if id(top) not in depth and new:
            depth[id(top)] = 0
            path.extend(new)
        else:
            if any(depth[id(item)] == 0 for item in inside):
                fail("a value that contains itself")
            depth[id(top)] = 1 + max((depth[id(item)] for item in inside), default=0)
            if depth[id(top)] > MAX_DEPTH:
                fail(f"values nested more than {MAX_DEPTH} deep")
            path.pop()


def _containers(value: Any) -> list[Any]:
    items = value.values() if isinstance(value, dict) else value
    if type(value) not in (dict, Attributed, list, tuple):
        return []
    return [item for item in items if type(item) in (dict, Attributed, list, tuple)]
