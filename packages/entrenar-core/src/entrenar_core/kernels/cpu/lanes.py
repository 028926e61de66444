"""Arithmetic on LLVM's numbers and vectors, written as Python writes it: for routines (see
`vectors.routine`) whose every operation has to be rounded by itself.

A `Lanes` is one number, or several side by side. Operators take another of the same kind, or a
plain number, which then is the same in all lanes.
"""

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import cgutils

from entrenar_core.kernels.cpu.vectors import F32, I8, I32

I1, I16 = ir.IntType(1), ir.IntType(16)
WHOLE: dict[int, Any] = {8: I8, 16: I16, 32: I32}
"""Integers by their bits."""


class Lanes:
    """Numbers of one kind: float32, integers of some bits, or conditions. The number of lanes is 0
    for a number by itself."""

    def __init__(self, builder: Any, value: Any):
        self.builder = builder
        self.value = value
        kind = value.type
        self.lanes: int = kind.count if isinstance(kind, ir.VectorType) else 0
        self.kind: Any = kind.element if self.lanes else kind

    @property
    def bytes(self) -> int:
        bits = 32 if self.kind == F32 else self.kind.width
        return bits * max(self.lanes, 1) // 8

    def _of(self, value: Any) -> "Lanes":
        return Lanes(self.builder, value)

    def _type(self, kind: Any) -> Any:
        return ir.VectorType(kind, self.lanes) if self.lanes else kind

    def like(self, number: "Lanes | float") -> "Lanes":
        """`number` as a value of this kind."""
        if isinstance(number, Lanes):
            return number
        content = [self.kind(number)] * self.lanes if self.lanes else number
        return self._of(ir.Constant(self._type(self.kind), content))

    def _with(self, name: str, other: "Lanes | float") -> "Lanes":
        return self._of(getattr(self.builder, name)(self.value, self.like(other).value))

    def _arithmetic(self, name: str, other: "Lanes | float") -> "Lanes":
        return self._with("f" + name if self.kind == F32 else name, other)

    def __add__(self, other: "Lanes | float") -> "Lanes":
        return self._arithmetic("add", other)

    def __sub__(self, other: "Lanes | float") -> "Lanes":
        return self._arithmetic("sub", other)

    def __mul__(self, other: "Lanes | float") -> "Lanes":
        return self._arithmetic("mul", other)

    def __truediv__(self, other: "Lanes | float") -> "Lanes":
        return self._with("fdiv", other)

    def __rtruediv__(self, other: float) -> "Lanes":
        return self.like(other) / self

    def __neg__(self) -> "Lanes":
        return self._of(self.builder.fneg(self.value))

    def __and__(self, other: "Lanes | int") -> "Lanes":
        return self._with("and_", other)

    def __or__(self, other: "Lanes | int") -> "Lanes":
        return self._with("or_", other)

    def __xor__(self, other: "Lanes | int") -> "Lanes":
        return self._with("xor", other)

    def __lshift__(self, other: "Lanes | int") -> "Lanes":
        return self._with("shl", other)

    def __rshift__(self, other: "Lanes | int") -> "Lanes":
        return self._with("lshr", other)

    def __lt__(self, other: "Lanes | float") -> "Lanes":
        return self._compared("<", other)

    def __gt__(self, other: "Lanes | float") -> "Lanes":
        return self._compared(">", other)

    def equals(self, other: "Lanes | float") -> "Lanes":
        return self._compared("==", other)

    def _compared(self, relation: str, other: "Lanes | float") -> "Lanes":
        """Integers are compared as signed ones; nothing is true of NaN."""
        compare = self.builder.fcmp_ordered if self.kind == F32 else self.builder.icmp_signed
        return self._of(compare(relation, self.value, self.like(other).value))

    def magnitude(self) -> "Lanes":
        return (self.bits() & 0x7FFFFFFF).as_float()

    def root(self) -> "Lanes":
        return self._of(self.builder.call(self._declared("llvm.sqrt"), [self.value]))

    def _declared(self, name: str) -> Any:
        """An intrinsic of LLVM's from this kind to the same."""
        kind, module = self.value.type, self.builder.module
        name += f".v{self.lanes}f32" if self.lanes else ".f32"
        found = module.globals.get(name)
        return found or ir.Function(module, ir.FunctionType(kind, [kind]), name=name)

    def bits(self) -> "Lanes":
        """float32 as the integer with the same bits; conditions as those of one integer."""
        kind = ir.IntType(self.lanes) if self.kind == I1 else self._type(I32)
        return self._of(self.builder.bitcast(self.value, kind))

    def as_float(self) -> "Lanes":
        """The float32 that has these bits."""
        return self._of(self.builder.bitcast(self.value, self._type(F32)))

    def whole(self) -> "Lanes":
        """Floats within its range as int32, rounded towards zero."""
        return self._of(self.builder.fptosi(self.value, self._type(I32)))

    def floats(self) -> "Lanes":
        """Signed integers as float32."""
        return self._of(self.builder.sitofp(self.value, self._type(F32)))

    def narrow(self, bits: int) -> "Lanes":
        return self._of(self.builder.trunc(self.value, self._type(WHOLE[bits])))

    def wide(self, *, signed: bool = False) -> "Lanes":
        """Integers of fewer bits, or conditions, in 32 bits."""
        extend = self.builder.sext if signed else self.builder.zext
        return self._of(extend(self.value, self._type(I32)))

    def spread(self, lanes: int) -> "Lanes":
        """This number in each of so many lanes."""
        kind = ir.VectorType(self.kind, lanes)
        undefined = ir.Constant(kind, ir.Undefined)
        first = self.builder.insert_element(undefined, self.value, I32(0))
        order = ir.Constant(ir.VectorType(I32, lanes), None)
        return self._of(self.builder.shuffle_vector(first, undefined, order))

    def lane(self, index: int) -> "Lanes":
        return self._of(self.builder.extract_element(self.value, I32(index)))

    def picked(self, *order: int, beside: "Lanes | None" = None) -> "Lanes":
        """The lanes with these numbers; those of `beside` are counted on from this one's."""
        other = self.value if beside is None else beside.value
        mask = ir.Constant(ir.VectorType(I32, len(order)), [I32(i) for i in order])
        return self._of(self.builder.shuffle_vector(self.value, other, mask))

    def joined(self, other: "Lanes") -> "Lanes":
        return self.picked(*range(2 * self.lanes), beside=other)

    def halves(self) -> "tuple[Lanes, Lanes]":
        middle = self.lanes // 2
        return self.picked(*range(middle)), self.picked(*range(middle, self.lanes))

    def folded(self, combine: "Callable[[Lanes, Lanes], Lanes]") -> "Lanes":
        """What `combine` makes of all lanes, in no particular order."""
        found = self
        while found.lanes > 1:
            found = combine(*found.halves())
        return found.lane(0)


def choose(condition: Lanes, first: Lanes, second: Lanes | float) -> Lanes:
    """`first` where the condition is true, `second` elsewhere."""
    other = first.like(second)
    builder = condition.builder
    return Lanes(builder, builder.select(condition.value, first.value, other.value))


def none_of(numbers: Lanes, condition: Lanes) -> Lanes:
    """Zeros where the condition, one for all lanes, is true."""
    return choose(condition, numbers.like(0), numbers)


def least(x: Lanes, y: Lanes | float) -> Lanes:
    """The lesser of two, `y` if they are equal or not comparable."""
    return choose(x < x.like(y), x, y)


def most(x: Lanes, y: Lanes | float) -> Lanes:
    """The greater of two, `y` if they are equal or not comparable."""
    return choose(x > x.like(y), x, y)


def most_bits(x: Lanes, y: Lanes) -> Lanes:
    """The greater of two integers without a sign."""
    builder = x.builder
    return choose(Lanes(builder, builder.icmp_unsigned(">", x.value, y.value)), x, y)


def counted(builder: Any, kind: Any, *numbers: float) -> Lanes:
    """Given numbers side by side."""
    return Lanes(
        builder, ir.Constant(ir.VectorType(kind, len(numbers)), [kind(n) for n in numbers])
    )


def read(builder: Any, address: Any, kind: Any, lanes: int = 0) -> Lanes:
    """What there is at an address, in bytes, that needs not be aligned."""
    whole_kind = ir.VectorType(kind, lanes) if lanes else kind
    found = builder.load(builder.inttoptr(address, whole_kind.as_pointer()))
    found.align = 4 if kind == F32 else 1
    return Lanes(builder, found)


def write(numbers: Lanes, address: Any) -> None:
    """Put numbers at an address, in bytes, that needs not be aligned."""
    builder = numbers.builder
    stored = builder.store(
        numbers.value, builder.inttoptr(address, numbers.value.type.as_pointer())
    )
    stored.align = 4 if numbers.kind == F32 else 1


class Variable:
    """A place for what a branch or a loop changes; LLVM keeps it in registers."""

    def __init__(self, first: Lanes):
        self.builder = first.builder
        self.at = cgutils.alloca_once_value(first.builder, first.value)

    def get(self) -> Lanes:
        return Lanes(self.builder, self.builder.load(self.at))

    def set(self, numbers: Lanes) -> None:
        self.builder.store(numbers.value, self.at)


def to_half(x: Lanes) -> Lanes:
    """The bits of the nearest float16, in 32: a tie goes to the even one, and what is beyond it is
    infinite. Not every CPU converts by itself. x must not be NaN."""
    size = x.magnitude()
    bits = size.bits()
    # the exponent is moved over, and what is cut off rounded into what is left
    usual = (bits + ((bits >> 13) & 1) + (0xFFF - (112 << 23))) >> 13
    # one place after 0.5 is that of the smallest float16
    tiny = (size + 0.5).bits() - (126 << 23)
    found = choose(size < 2.0**-14, tiny, usual)
    found = choose(size < 65536.0, found, 0x7C00)
    return found | ((x.bits() >> 16) & 0x8000)


def from_half(half: Lanes) -> Lanes:
    """float32 of the bits of a float16, in 32."""
    shifted = (half & 0x7FFF) << 13
    # moved into place, exponents are off by 112, those of subnormal numbers too
    scaled = (shifted.as_float() * 2.0**112).bits()
    special = choose(shifted < 0x0F800000, scaled, shifted | 0x7F800000)
    return (special | ((half & 0x8000) << 16)).as_float()
