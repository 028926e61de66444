"""An interpreter for the pickles of state dicts that can do nothing but build inert values.

A pickle is a program for a small stack machine. This one knows the opcodes that torch.save writes
and no others. Its values are None, truth values, numbers, text, bytes, tuples, lists, dictionaries,
sets and the records of `torch_records`; a name becomes what the frozen table there says, or an
error. It imports nothing, calls nothing that the file chooses, and has no other mode.
Opcodes: https://docs.python.org/3/library/pickletools.html.
"""

from collections.abc import Callable
from struct import Struct
from typing import Any, NoReturn, Protocol

from entrenar_common.errors import FormatError, RefusedError, UnsupportedError
from entrenar_common.text import escape_controls
from entrenar_core.io.torch_records import (
    DAMAGED,
    GLOBALS,
    SANDBOX,
    UNREAD,
    Attributed,
    Named,
    Storage,
    put,
)

MAX_PICKLE_BYTES = 64 * 2**20
MAX_OPERATIONS = 20_000_000
MAX_STACK = 1_000_000
MAX_DEPTH = 64
MAX_NAME_BYTES = 200

_U16, _I32, _U32, _F64 = Struct("<H"), Struct("<i"), Struct("<I"), Struct(">d")
_PROTO, _STOP, _GLOBAL = 0x80, ord("."), ord("c")

Persistent = Callable[[tuple[Any, ...]], Storage]


class Source(Protocol):
    """What a pickle is read from: bytes, or a mapped file."""

    def __getitem__(self, place: slice, /) -> bytes: ...

    def find(self, sub: bytes, start: int, end: int, /) -> int: ...


def unpickle(
    data: Source, label: str, *, begin: int, end: int, persistent: Persistent | None = None
) -> tuple[Any, int]:
    """The value of the pickle that starts at `begin`, and where it stops, at `end` at most.

    `persistent` makes storages of what the pickle says of them; without it there are none. Raises
    FormatError (malformed), RefusedError (anything that a state dict has no use for, code above
    all), UnsupportedError (tensors that are not read here), each with `label` and the byte.
    """
    machine = _Machine(data, begin, min(end, begin + MAX_PICKLE_BYTES), persistent)
    try:
        value = machine.run()
        _check_nesting(value)
    except (FormatError, RefusedError, UnsupportedError) as error:
        raise type(error)(
            f"{label}: {error} (at byte {machine.at})", hint=error.hint or DAMAGED
        ) from None
    return value, machine.position


class _Machine:
    def __init__(self, data: Source, begin: int, end: int, persistent: Persistent | None) -> None:
        self.data = data
        self.at = self.position = begin
        self.end = end
        self.persistent = persistent
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []  # the stacks under each open mark
        self.memo: dict[int, Any] = {}

    def run(self) -> Any:
        if self.take(1)[0] != _PROTO or not 2 <= self.take(1)[0] <= 5:
            fail("not a pickle of protocol 2 to 5")
        for _ in range(MAX_OPERATIONS):
            self.at = self.position
            code = self.take(1)[0]
            if code == _STOP:
                value = self.pop()
                if self.stack or self.below:
                    fail("the pickle stops with values left over")
                return value
            operation = _OPERATIONS[code]
            if operation is None:
                _refuse(code)
            operation(self)
            if len(self.stack) > MAX_STACK or len(self.below) > MAX_STACK:
                fail(f"more than {MAX_STACK} values on the stack")
        return fail(f"more than {MAX_OPERATIONS} operations")

    def take(self, length: int) -> bytes:
        begin = self.position
        if length > self.end - begin:
            fail(f"{length} bytes are wanted and {self.end - begin} are left: it is truncated")
        self.position += length
        return self.data[begin : self.position]

    def line(self) -> str:
        stop = self.data.find(b"\n", self.position, min(self.end, self.position + MAX_NAME_BYTES))
        if stop < 0:
            fail(f"a name without an end, or of more than {MAX_NAME_BYTES} bytes")
        raw = self.data[self.position : stop]
        self.position = stop + 1
        return _decoded(raw)

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop(self) -> Any:
        if not self.stack:
            fail("a value is wanted and the stack is empty")
        return self.stack.pop()

    def top(self) -> Any:
        if not self.stack:
            fail("a value is wanted and the stack is empty")
        return self.stack[-1]

    def pop_to_mark(self) -> list[Any]:
        if not self.below:
            fail("no mark on the stack")
        found, self.stack = self.stack, self.below.pop()
        return found


def fail(what: str) -> NoReturn:
    """Raises the FormatError that `unpickle` gives its place."""
    raise FormatError(what, hint=DAMAGED)


def _decoded(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        fail("text that is not UTF-8")


_Operation = Callable[[_Machine], None]
_OPERATIONS: list[_Operation | None] = [None] * 256


def _operation(*codes: int) -> Callable[[_Operation], _Operation]:
    def register(function: _Operation) -> _Operation:
        for code in codes:
            _OPERATIONS[code] = function
        return function

    return register


def _constants() -> None:
    def pushes(make: Callable[[], Any]) -> _Operation:
        return lambda machine: machine.push(make())

    makers: dict[int, Callable[[], Any]] = {
        ord("N"): lambda: None,
        0x88: lambda: True,
        0x89: lambda: False,
        ord(")"): tuple,
        ord("]"): list,
        ord("}"): dict,
        0x8F: frozenset,
    }
    for code, make in makers.items():
        _OPERATIONS[code] = pushes(make)


_constants()


@_operation(ord("("))
def _mark(machine: _Machine) -> None:
    machine.below.append(machine.stack)
    machine.stack = []


@_operation(ord("K"))
def _binint1(machine: _Machine) -> None:
    machine.push(machine.take(1)[0])


@_operation(ord("M"))
def _binint2(machine: _Machine) -> None:
    machine.push(_U16.unpack(machine.take(2))[0])


@_operation(ord("J"))
def _binint(machine: _Machine) -> None:
    machine.push(_I32.unpack(machine.take(4))[0])


@_operation(0x8A)
def _long1(machine: _Machine) -> None:
    length = machine.take(1)[0]
    if length > 8:
        fail(f"an integer of {length} bytes, more than 8")
    machine.push(int.from_bytes(machine.take(length), "little", signed=True))


@_operation(0x8B)
def _long4(machine: _Machine) -> None:
    fail(f"an integer of {_U32.unpack(machine.take(4))[0]} bytes in the form for more than 255")


@_operation(ord("G"))
def _binfloat(machine: _Machine) -> None:
    machine.push(_F64.unpack(machine.take(8))[0])


@_operation(ord("X"))
def _binunicode(machine: _Machine) -> None:
    machine.push(_decoded(machine.take(_U32.unpack(machine.take(4))[0])))


@_operation(ord("U"))
def _short_binstring(machine: _Machine) -> None:  # how Python 2 wrote names
    machine.push(_decoded(machine.take(machine.take(1)[0])))


@_operation(ord("t"))
def _tuple(machine: _Machine) -> None:
    items = machine.pop_to_mark()
    machine.push(tuple(items))


@_operation(0x85, 0x86, 0x87)
def _tuple_of(machine: _Machine) -> None:
    items = [machine.pop() for _ in range(machine.data[machine.at : machine.at + 1][0] - 0x84)]
    machine.push(tuple(reversed(items)))


@_operation(ord("a"))
def _append(machine: _Machine) -> None:
    item = machine.pop()
    _target(machine, "appended to", list).append(item)


@_operation(ord("e"))
def _appends(machine: _Machine) -> None:
    items = machine.pop_to_mark()
    _target(machine, "appended to", list).extend(items)


@_operation(ord("s"))
def _setitem(machine: _Machine) -> None:
    value, key = machine.pop(), machine.pop()
    put(_target(machine, "filled", dict, Attributed), key, value)


@_operation(ord("u"))
def _setitems(machine: _Machine) -> None:
    items = machine.pop_to_mark()
    target = _target(machine, "filled", dict, Attributed)
    if len(items) % 2:
        fail("a key without a value")
    for place in range(0, len(items), 2):
        put(target, items[place], items[place + 1])


@_operation(ord("b"))
def _build(machine: _Machine) -> None:
    state = machine.pop()
    _target(machine, "given a state", Attributed)
    if type(state) is not dict or any(type(key) is not str for key in state):
        fail("the attributes of a dictionary are not names with values")


def _target(machine: _Machine, what: str, *kinds: type) -> Any:
    target = machine.top()
    if type(target) not in kinds:
        raise RefusedError(f"a {type(target).__name__} is {what}", hint=SANDBOX)
    return target


@_operation(ord("q"))
def _binput(machine: _Machine) -> None:
    machine.memo[machine.take(1)[0]] = machine.top()


@_operation(ord("r"))
def _long_binput(machine: _Machine) -> None:
    number = _U32.unpack(machine.take(4))[0]
    if number > MAX_OPERATIONS:
        fail(f"memo number {number} exceeds the limit of {MAX_OPERATIONS}")
    machine.memo[number] = machine.top()


@_operation(ord("h"))
def _binget(machine: _Machine) -> None:
    _recall(machine, machine.take(1)[0])


@_operation(ord("j"))
def _long_binget(machine: _Machine) -> None:
    _recall(machine, _U32.unpack(machine.take(4))[0])


def _recall(machine: _Machine, number: int) -> None:
    if number not in machine.memo:
        fail(f"nothing was kept as number {number}")
    machine.push(machine.memo[number])


@_operation(_GLOBAL)
def _global(machine: _Machine) -> None:
    name = f"{machine.line()}.{machine.line()}"
    if name in UNREAD:
        raise UnsupportedError(
            f"{name}: quantized, sparse, nested or 128-bit tensors are not read",
            hint="save the weights again as dense tensors of numbers of up to 64 bits",
        )
    if name not in GLOBALS:
        raise RefusedError(f"{escape_controls(name)} is not a tensor type", hint=SANDBOX)
    machine.push(GLOBALS[name])


@_operation(ord("R"))
def _reduce(machine: _Machine) -> None:
    arguments, function = machine.pop(), machine.pop()
    if type(function) is not Named:
        raise RefusedError(f"a {type(function).__name__} is called", hint=SANDBOX)
    machine.push(function.call(arguments))


@_operation(ord("Q"))
def _binpersid(machine: _Machine) -> None:
    about = machine.pop()
    if type(about) is not tuple or not about or about[0] != "storage" or not machine.persistent:
        raise RefusedError("a reference to something else than a storage", hint=SANDBOX)
    machine.push(machine.persistent(about))


_NAMES = {
    ord("i"): "INST", ord("o"): "OBJ", ord("P"): "PERSID", 0x81: "NEWOBJ", 0x82: "EXT1",
    0x83: "EXT2", 0x84: "EXT4", 0x92: "NEWOBJ_EX", 0x93: "STACK_GLOBAL", 0x94: "MEMOIZE",
    0x95: "FRAME", 0x8C: "SHORT_BINUNICODE", ord("B"): "BINBYTES", ord("C"): "SHORT_BINBYTES",
}  # fmt: skip


def _refuse(code: int) -> NoReturn:
    raise RefusedError(
        f"opcode {code:#04x} {_NAMES.get(code, '')}".rstrip() + " is none that torch.save writes",
        hint="save the weights again with torch.save and its default protocol, or as safetensors",
    )


def _check_nesting(value: Any) -> None:
    """No value that contains itself, and none nested more than MAX_DEPTH deep."""
    depth: dict[int, int] = {}  # by identity; 0 while what it contains is being looked at
    path = [value]
    while path:
        top = path[-1]
        inside = _containers(top)
        open_ones = [item for item in inside if id(item) not in depth]
        if id(top) in depth and depth[id(top)]:
            path.pop()
        elif id(top) not in depth and open_ones:
            depth[id(top)] = 0
            path.extend(open_ones)
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
