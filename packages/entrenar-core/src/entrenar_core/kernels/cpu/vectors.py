"""What loops over tiles of numbers are written in: LLVM's vectors of 16.

Why not in Python: numba's loops over a few vectors spend as long on checks of aliasing and on left
over numbers as on the vectors, and a product cannot be kept in registers. Why not BLAS: it packs
both operands, which costs more than it gains where they are skinny and in the cache already.

Everything is given by address and by strides in bytes, so one compilation serves all layouts in
memory. A count of vectors is `vectors`, 16 numbers wide each.
"""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numba
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic as untyped_intrinsic

from entrenar_core.kernels.cpu.compile import NOT_COMPILED

WIDTH = 16
"""Numbers in a vector, whatever the CPU has: LLVM splits them where its registers are shorter."""

BYTES = 4 * WIDTH

intrinsic: Any = untyped_intrinsic
carray: Any = numba.carray  # pyright: ignore[reportPrivateImportUsage]
get_thread_id: Any = numba.get_thread_id  # pyright: ignore[reportPrivateImportUsage]

I8, I32, I64, F32 = ir.IntType(8), ir.IntType(32), ir.IntType(64), ir.FloatType()
VECTOR = ir.VectorType(F32, WIDTH)
WHOLES = ir.VectorType(I32, WIDTH)
LONGS = ir.VectorType(I64, WIDTH)
INTEGER, NUMBER, UNSIGNED = types.int64, types.float32, types.uint64

Builder = Any


def routine(*arguments: Any, name: str = "") -> Callable[[Callable[..., None]], Any]:
    """Make `build(builder, *arguments)`, which writes a function's body, callable in kernels.

    It is compiled as a function of its own, once for each kernel, and never copied into callers.
    """
    signature = types.void(*arguments)

    def decorate(build: Callable[..., None]) -> Any:
        symbol = f"entrenar_{name or build.__name__}"

        def generate(context: Any, builder: Builder, _signature: Any, values: Any) -> Any:
            if symbol not in builder.module.globals:
                kinds = [context.get_value_type(argument) for argument in arguments]
                function = ir.Function(
                    builder.module, ir.FunctionType(ir.VoidType(), kinds), name=symbol
                )
                # with this linkage and attribute LLVM makes no copies of it and unrolls no loops
                function.linkage = "linkonce"
                function.attributes.add("optsize")
                inside = ir.IRBuilder(function.append_basic_block("entry"))
                build(inside, *function.args)
                inside.ret_void()
            builder.call(builder.module.globals[symbol], values)
            return context.get_dummy_value()

        def called(_typing: Any, *_given: Any) -> Any:
            return signature, generate

        called.__name__ = symbol
        called.__signature__ = inspect.signature(build)  # type: ignore[attr-defined]
        return intrinsic(called)

    return decorate


# --- what routines are made of -------------------------------------------------------------------


def load(builder: Builder, address: Any, kind: Any = VECTOR) -> Any:
    found = builder.load(builder.inttoptr(address, kind.as_pointer()))
    found.align = 4
    return found


def store(builder: Builder, value: Any, address: Any) -> None:
    stored = builder.store(value, builder.inttoptr(address, value.type.as_pointer()))
    stored.align = 4


def spread(builder: Builder, number: Any) -> Any:
    """A vector of one number."""
    kind = ir.VectorType(number.type, WIDTH)
    undefined = ir.Constant(kind, ir.Undefined)
    first = builder.insert_element(undefined, number, I32(0))
    return builder.shuffle_vector(first, undefined, ir.Constant(WHOLES, None))


def constant(number: float) -> Any:
    return ir.Constant(VECTOR, [F32(number)] * WIDTH)


def whole(kind: Any, *numbers: int) -> Any:
    """A vector of integers: one number everywhere, or 16 numbers."""
    return ir.Constant(kind, [kind.element(n) for n in numbers * (WIDTH // len(numbers))])


def place(builder: Builder, base: Any, index: Any, stride: Any) -> Any:
    return builder.add(base, builder.mul(index, I64(stride) if isinstance(stride, int) else stride))


def plus(builder: Builder, x: Any, y: Any) -> Any:
    return builder.fadd(x, y, flags=("contract",))


def times(builder: Builder, x: Any, y: Any) -> Any:
    return builder.fmul(x, y, flags=("contract",))


def greater(builder: Builder, x: Any, y: Any) -> Any:
    """x where x > y, else y."""
    return builder.select(builder.fcmp_ordered(">", x, y), x, y)


def variable(builder: Builder, value: Any) -> Any:
    """A place for a number or vector that a loop changes; LLVM keeps it in a register."""
    return cgutils.alloca_once_value(builder, value)


def declared(builder: Builder, name: str, result: Any, *arguments: Any) -> Any:
    found = builder.module.globals.get(name)
    return found or ir.Function(builder.module, ir.FunctionType(result, arguments), name=name)


def exponential(builder: Builder, x: Any) -> Any:
    """eˣ as `elementary.exp` computes it, but 0 below e⁻⁸⁷, so also for −∞. NaN stays NaN."""
    floor = declared(builder, "llvm.floor.v16f32", VECTOR, VECTOR)
    tiny = builder.fcmp_ordered("<", x, constant(-87.0))
    x = builder.select(tiny, constant(-87.0), x)
    k = builder.call(floor, [plus(builder, times(builder, x, constant(1.44269504)), constant(0.5))])
    r = plus(builder, x, times(builder, k, constant(-0.693359375)))
    r = plus(builder, r, times(builder, k, constant(2.12194440e-4)))
    p = constant(1.9875691500e-4)
    for coefficient in (
        1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1,
    ):  # fmt: skip
        p = plus(builder, times(builder, p, r), constant(coefficient))
    p = plus(builder, times(builder, p, times(builder, r, r)), r)
    p = plus(builder, p, constant(1.0))
    power = builder.add(builder.fptosi(k, WHOLES), whole(WHOLES, 127))
    power = builder.bitcast(builder.shl(power, whole(WHOLES, 23)), VECTOR)
    return builder.select(tiny, constant(0.0), builder.fmul(p, power))


def numbered(builder: Builder, first: Any) -> Any:
    """first, first + 1, …"""
    return builder.add(spread(builder, first), whole(LONGS, *range(WIDTH)))


def swapped(builder: Builder, upper: Any, lower: Any, distance: int) -> tuple[Any, Any]:
    """The rows after the right half of `upper`'s blocks is swapped with the left of `lower`'s."""
    above = [WIDTH + j - distance if j & distance else j for j in range(WIDTH)]
    below = [WIDTH + j if j & distance else j + distance for j in range(WIDTH)]
    first, second = (
        builder.shuffle_vector(upper, lower, whole(WHOLES, *order)) for order in (above, below)
    )
    return first, second


def folded(builder: Builder, vector: Any, combine: Callable[..., Any]) -> Any:
    """A vector of what `combine` makes of all numbers of one."""
    for distance in (8, 4, 2, 1):
        order = whole(WHOLES, *((j + distance) % WIDTH for j in range(WIDTH)))
        vector = combine(builder, vector, builder.shuffle_vector(vector, vector, order))
    return vector


def fetch(builder: Builder, address: Any, *, writes: bool = False) -> None:
    """Have a line of memory, which need not be there, brought into the first-level cache. By itself
    the processor reads ahead up to the end of a page, and so does nothing while a row of that size
    is looked at once more."""
    kind = I8.as_pointer()
    fetch = declared(builder, "llvm.prefetch.p0", ir.VoidType(), kind, I32, I32, I32)
    builder.call(fetch, [builder.inttoptr(address, kind), I32(int(writes)), I32(3), I32(1)])


@contextmanager
def counting(builder: Builder, count: Any) -> Iterator[Any]:
    """A loop over 0 ≤ i < count."""
    with cgutils.for_range(builder, count) as loop:
        yield loop.index


@contextmanager
def each_vector(builder: Builder, vectors: Any) -> Iterator[Any]:
    """A loop over the offsets of vectors in bytes."""
    with counting(builder, vectors) as index:
        yield builder.mul(index, I64(BYTES))


# --- numbers in memory, and what threads share ---------------------------------------------------


@intrinsic
def number_at(_typing, _address):
    """The float32 at an address."""

    def generate(_context, builder, _signature, arguments):
        return load(builder, arguments[0], F32)

    return types.float32(types.int64), generate


@intrinsic
def integer_at(_typing, _address):
    """The int64 at an address."""

    def generate(_context, builder, _signature, arguments):
        return load(builder, arguments[0], I64)

    return types.int64(types.int64), generate


@intrinsic
def byte_at(_typing, _address):
    """The byte at an address."""

    def generate(_context, builder, _signature, arguments):
        return builder.zext(builder.load(builder.inttoptr(arguments[0], I8.as_pointer())), I64)

    return types.int64(types.int64), generate


@intrinsic
def put_number(_typing, _address, _number):
    """Write a float32 to an address."""

    def generate(context, builder, _signature, arguments):
        store(builder, arguments[1], arguments[0])
        return context.get_dummy_value()

    return types.void(types.int64, types.float32), generate


@intrinsic
def take(_typing, _address):
    """The integer at an address, which is counted up: no two threads get the same."""

    def generate(_context, builder, _signature, arguments):
        counter = builder.inttoptr(arguments[0], I64.as_pointer())
        return builder.atomic_rmw("add", counter, I64(1), "monotonic")

    return types.int64(types.int64), generate


@intrinsic
def hand_over(_typing, _address):
    """Count up the integer at an address, once all that was written before can be seen."""

    def generate(context, builder, _signature, arguments):
        counter = builder.inttoptr(arguments[0], I64.as_pointer())
        builder.atomic_rmw("add", counter, I64(1), "release")
        return context.get_dummy_value()

    return types.void(types.int64), generate


@intrinsic
def await_handed(_typing, _address, _count):
    """Wait until others have counted the integer at an address up to `count`. They have to be at
    it already: what nobody has begun would be waited for in vain."""

    def generate(context, builder, _signature, arguments):
        counter = builder.inttoptr(arguments[0], I64.as_pointer())
        waiting, there = (builder.append_basic_block(name) for name in ("waiting", "there"))
        builder.branch(waiting)
        builder.position_at_end(waiting)
        found = builder.load_atomic(counter, "acquire", 8)
        builder.cbranch(builder.icmp_signed(">=", found, arguments[1]), there, waiting)
        builder.position_at_end(there)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), generate


@intrinsic
def _apart(_typing):
    """Keep LLVM from copying the function that calls this into its callers: kernels would take
    several times as long to compile."""

    def generate(context, builder, _signature, _arguments):
        builder.function.attributes.add("noinline")
        return context.get_dummy_value()

    return types.void(), generate


def _nothing() -> None:
    """Stands for what only compiled code knows, where nothing is compiled."""


apart: Any = _nothing if NOT_COMPILED else _apart
