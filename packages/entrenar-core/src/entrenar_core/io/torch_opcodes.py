"""The opcodes of the pickles of state dicts: what each does to the stack of a small machine.

Those are here that torch.save writes, and no others. Values are None, truth values, numbers, text,
bytes, tuples, lists, dictionaries, sets and the records of `torch_records`. A name becomes what the
frozen table there says, or an error. Nothing is imported, and nothing called that the file chooses.
Opcodes: https://docs.python.org/3/library/pickletools.html.
"""

from collections.abc import Callable
from struct import Struct
from typing import Any, NoReturn, Protocol, overload

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

MAX_OPERATIONS = 4_000_000  # a tensor takes some 40 of them
MAX_BUILT = 500_000  # containers and records; a tensor takes 7
MAX_NAME_BYTES = 200

_U16, _I32, _U32, _F64 = Struct("<H"), Struct("<i"), Struct("<I"), Struct(">d")

Persistent = Callable[[tuple[Any, ...]], Storage]
"""Makes the storage that a pickle tells of; raises FormatError and the like."""


class Source(Protocol):
    """What a pickle is read from: bytes, or a mapped file."""

    @overload
    def __getitem__(self, place: int, /) -> int: ...
    @overload
    def __getitem__(self, place: slice, /) -> bytes: ...

    def find(self, sub: bytes, start: int, end: int, /) -> int: ...


class Machine:
    """The state of a pickle being interpreted: its stack, its memo, and where it is in the data."""

    def __init__(self, data: Source, begin: int, end: int, persistent: Persistent | None) -> None:
        self.data = data
        self.at = self.position = begin
        self.end = end
        self.persistent = persistent
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []  # the stacks under each open mark
        self.memo: dict[int, Any] = {}
        self.built = 0

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

    def build(self, value: Any) -> None:
        """Pushes a value that takes memory beyond its place on the stack."""
        self.built += 1
        if self.built > MAX_BUILT:
            fail(f"more than {MAX_BUILT} tuples, lists, dictionaries and tensors")
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


_Operation = Callable[[Machine], None]


def _pushes(make: Callable[[], Any]) -> _Operation:
    return lambda machine: machine.push(make())


OPERATIONS: dict[int, _Operation] = {
    ord("N"): _pushes(lambda: None),
    0x88: _pushes(lambda: True),
    0x89: _pushes(lambda: False),
    ord(")"): _pushes(tuple),
    0x8F: _pushes(frozenset),
    ord("]"): lambda machine: machine.build([]),
    ord("}"): lambda machine: machine.build({}),
}
"""What each opcode does that is known here; those below register themselves."""


def _operation(*codes: int) -> Callable[[_Operation], _Operation]:
    def register(function: _Operation) -> _Operation:
        for code in codes:
            OPERATIONS[code] = function
        return function

    return register


@_operation(ord("("))
def _mark(machine: Machine) -> None:
    if len(machine.below) == MAX_BUILT:
        fail(f"more than {MAX_BUILT} marks")
    machine.below.append(machine.stack)
    machine.stack = []


@_operation(ord("K"))
def _binint1(machine: Machine) -> None:
    machine.push(machine.take(1)[0])


@_operation(ord("M"))
def _binint2(machine: Machine) -> None:
    machine.push(_U16.unpack(machine.take(2))[0])


@_operation(ord("J"))
def _binint(machine: Machine) -> None:
    machine.push(_I32.unpack(machine.take(4))[0])


@_operation(0x8A)
def _long1(machine: Machine) -> None:
    length = machine.take(1)[0]
    if length > 8:
        fail(f"an integer of {length} bytes, more than 8")
    machine.push(int.from_bytes(machine.take(length), "little", signed=True))


@_operation(0x8B)
def _long4(machine: Machine) -> None:
    fail(f"an integer of {_U32.unpack(machine.take(4))[0]} bytes in the form for more than 255")


@_operation(ord("G"))
def _binfloat(machine: Machine) -> None:
    machine.push(_F64.unpack(machine.take(8))[0])


@_operation(ord("X"))
def _binunicode(machine: Machine) -> None:
    machine.push(_decoded(machine.take(_U32.unpack(machine.take(4))[0])))


@_operation(ord("U"))
def _short_binstring(machine: Machine) -> None:  # how Python 2 wrote names
    machine.push(_decoded(machine.take(machine.take(1)[0])))


@_operation(ord("t"))
def _tuple(machine: Machine) -> None:
    machine.build(tuple(machine.pop_to_mark()))


@_operation(0x85, 0x86, 0x87)
def _tuple_of(machine: Machine) -> None:
    items = [machine.pop() for _ in range(machine.data[machine.at] - 0x84)]
    machine.build(tuple(reversed(items)))


@_operation(ord("a"))
def _append(machine: Machine) -> None:
    item = machine.pop()
    _target(machine, "appended to", list).append(item)


@_operation(ord("e"))
def _appends(machine: Machine) -> None:
    items = machine.pop_to_mark()
    _target(machine, "appended to", list).extend(items)


@_operation(ord("s"))
def _setitem(machine: Machine) -> None:
    value, key = machine.pop(), machine.pop()
    put(_target(machine, "filled", dict, Attributed), key, value)


@_operation(ord("u"))
def _setitems(machine: Machine) -> None:
    items = machine.pop_to_mark()
    target = _target(machine, "filled", dict, Attributed)
    if len(items) % 2:
        fail("a key without a value")
    for place in range(0, len(items), 2):
        put(target, items[place], items[place + 1])


@_operation(ord("b"))
def _build(machine: Machine) -> None:
    state = machine.pop()
    _target(machine, "given a state", Attributed)
    if type(state) is not dict or any(type(key) is not str for key in state):
        fail("the attributes of a dictionary are not names with values")


def _target(machine: Machine, what: str, *kinds: type) -> Any:
    target = machine.top()
    if type(target) not in kinds:
        raise RefusedError(f"a {type(target).__name__} is {what}", hint=SANDBOX)
    return target


@_operation(ord("q"))
def _binput(machine: Machine) -> None:
    machine.memo[machine.take(1)[0]] = machine.top()


@_operation(ord("r"))
def _long_binput(machine: Machine) -> None:
    number = _U32.unpack(machine.take(4))[0]
    if number > MAX_OPERATIONS:
        fail(f"memo number {number} exceeds the limit of {MAX_OPERATIONS}")
    machine.memo[number] = machine.top()


@_operation(ord("h"))
def _binget(machine: Machine) -> None:
    _recall(machine, machine.take(1)[0])


@_operation(ord("j"))
def _long_binget(machine: Machine) -> None:
    _recall(machine, _U32.unpack(machine.take(4))[0])


def _recall(machine: Machine, number: int) -> None:
    if number not in machine.memo:
        fail(f"nothing was kept as number {number}")
    machine.push(machine.memo[number])


@_operation(ord("c"))
def _global(machine: Machine) -> None:
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
def _reduce(machine: Machine) -> None:
    arguments, function = machine.pop(), machine.pop()
    if type(function) is not Named:
        raise RefusedError(f"a {type(function).__name__} is called", hint=SANDBOX)
    machine.build(function.call(arguments))


@_operation(ord("Q"))
def _binpersid(machine: Machine) -> None:
    about = machine.pop()
    if type(about) is not tuple or not about or about[0] != "storage" or not machine.persistent:
        raise RefusedError("a reference to something else than a storage", hint=SANDBOX)
    machine.build(machine.persistent(about))


_NAMES = {
    ord("i"): "INST", ord("o"): "OBJ", ord("P"): "PERSID", 0x81: "NEWOBJ", 0x82: "EXT1",
    0x83: "EXT2", 0x84: "EXT4", 0x92: "NEWOBJ_EX", 0x93: "STACK_GLOBAL", 0x94: "MEMOIZE",
    0x95: "FRAME", 0x8C: "SHORT_BINUNICODE", ord("B"): "BINBYTES", ord("C"): "SHORT_BINBYTES",
}  # fmt: skip


def refuse(code: int) -> NoReturn:
    """Raises the error for an opcode that is not known here."""
    raise RefusedError(
        f"opcode {code:#04x} {_NAMES.get(code, '')}".rstrip() + " is none that torch.save writes",
        hint="save the weights again with torch.save and its default protocol, or as safetensors",
    )
