"""Work that is shared out to numba's threads, as a part of what one of them is told to do.

    @inner
    def _halve_rows(first, last, x, y):
        for i in range(first, last):
            y[i] = x[i] / 2

    @jit
    def _halve(x, y):
        share_out(_halve_rows, x.shape[0], x.size, (x, y))

numba's own `prange` compiles each loop three times over, as a function that it writes, as a wrapper
of that and as a part of the caller: 0.6 s where this takes 0.2 s.
"""

import os
from collections.abc import Callable
from typing import Any

import numba
from llvmlite import ir
from numba.core import cgutils, types

from entrenar_core.kernels.cpu.compile import NOT_COMPILED, inner
from entrenar_core.kernels.cpu.vectors import I8, I32, I64, Builder, intrinsic

SERIAL = 16_384
"""Elements up to which an elementwise kernel or one over rows uses the calling thread alone: waking
another one takes longer than the work."""

BLOCK = 4_096
"""Elements of a piece of an elementwise kernel's work."""

LANES = 16
"""Partial results of a reduction over rows. A constant, so that the number of threads does not
change a bit of the result."""

BIT = ir.IntType(1)
_AT, _NUMBER_AT = I8.as_pointer(), I64.as_pointer()
_LOOP = ir.FunctionType(ir.VoidType(), [_AT.as_pointer(), _NUMBER_AT, _NUMBER_AT, _AT])
"""What numba's threads call: arguments, how many items there are, the bytes from an argument of one
item to that of the next, and what all items share."""

_PARALLEL_FOR = ir.FunctionType(
    ir.VoidType(), [_LOOP.as_pointer(), *_LOOP.args, I64, I64, I32]
)  # fmt: skip
"""`numba_parallel_for(loop, arguments, items, steps, shared, dimensions, arguments, threads)`."""


def start_threads() -> None:
    """Load numba's thread pool with workers that soon sleep while they wait.

    GNU OpenMP lets idle workers spin for milliseconds unless it is told otherwise. Beside another
    busy process that makes a training step five times slower. Workers that never spin are woken
    anew by every kernel, which takes 45 µs; with a spin of some 20 µs a kernel that follows another
    starts within 2 µs, and a busy neighbour costs a few percent more. The variable is read once,
    when the pool is loaded, and is taken back after that; a setting of the user's is left alone.
    """
    chosen = {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & os.environ.keys()
    if not chosen:
        os.environ["GOMP_SPINCOUNT"] = "2000"
    numba.get_num_threads()  # loads the pool
    if not chosen:
        del os.environ["GOMP_SPINCOUNT"]


def number_of_threads() -> int:
    """That work is shared out to."""
    return numba.get_num_threads()


def use_threads(count: int) -> None:
    """Share work that the calling thread has out to so many."""
    numba.set_num_threads(count)


@inner
def blocks_of(size):
    """Into how many blocks so many elements are cut."""
    return (size + BLOCK - 1) // BLOCK


def _share_out(work: Callable[..., None], units: int, _size: int, arguments: tuple) -> None:
    work(0, units, *arguments)


@intrinsic
def _compiled(typing, work, _units, _size, arguments):
    """As `share_out`."""
    kinds = [types.unliteral(kind) for kind in arguments.types]
    called = work.get_call_type(typing, (types.int64, types.int64, *kinds), {})

    def generate(context, builder, _signature, values):
        _, units, size, given = values
        compiled = work.dispatcher.overloads[called.args]
        context.active_code_library.add_linking_library(compiled.library)
        told = [
            context.cast(builder, value, given_kind, kind)
            for value, given_kind, kind in zip(
                cgutils.unpack_tuple(builder, given), arguments.types, kinds, strict=True
            )
        ]
        failed = cgutils.alloca_once_value(builder, BIT(0))

        def call(builder: Builder, first: Any, last: Any, told: Any, failed: Any) -> None:
            function = context.declare_function(builder.module, compiled.fndesc)
            borrowed = [
                _borrowed(context, builder, kind, value)
                for kind, value in zip(kinds, told, strict=True)
            ]
            status, _ = context.call_conv.call_function(
                builder, function, called.return_type, called.args, [first, last, *borrowed],
                attrs=("alwaysinline",),
            )  # fmt: skip
            with builder.if_then(status.is_error, likely=False):
                builder.store(BIT(1), failed)

        shared = [units, _threads(builder, units, size), failed, *told]
        _launch(context.get_python_api(builder), builder, shared, call)
        with builder.if_then(builder.load(failed), likely=False):
            said = ("a part of a kernel's work was not done: there is no memory for it",)
            context.call_conv.return_user_exc(builder, MemoryError, said)
        return context.get_dummy_value()

    return types.void(work, types.int64, types.int64, arguments), generate


def _borrowed(context: Any, builder: Builder, kind: Any, value: Any) -> Any:
    """An array of nobody's: threads that take views of it would all count them in one place, and
    wait for each other there."""
    if not isinstance(kind, types.Array):
        return value
    array = context.make_array(kind)(context, builder, value)
    array.meminfo, array.parent = (
        ir.Constant(owner.type, None) for owner in (array.meminfo, array.parent)
    )
    return array._getvalue()


def _threads(builder: Builder, units: Any, size: Any) -> Any:
    kind = ir.FunctionType(I32, [])
    asked = cgutils.get_or_insert_function(builder.module, kind, "get_num_threads")
    there = builder.sext(builder.call(asked, []), I64)
    most = builder.select(builder.icmp_signed("<", units, there), units, there)
    return builder.select(builder.icmp_signed("<=", size, I64(SERIAL)), I64(1), most)


def _launch(python: Any, builder: Builder, shared: list[Any], call: Callable[..., None]) -> None:
    """Let the threads do `call` of a part each, with what they share: how many units and threads
    there are, and what `call` takes.

    Meanwhile other threads of Python go on. Arrays that the parts make are told of to tracemalloc,
    which waits for Python's lock, so that it must not be kept here.
    """
    frame = cgutils.alloca_once(builder, ir.LiteralStructType([value.type for value in shared]))
    for place, value in enumerate(shared):
        builder.store(value, cgutils.gep_inbounds(builder, frame, 0, place))
    loop, threads = _loop(builder, frame.type, len(shared), call), shared[1]
    # an item is told its number as the address of its argument
    begin = cgutils.alloca_once_value(builder, ir.Constant(_AT, None))
    items, step = (cgutils.alloca_once_value(builder, number) for number in (threads, I64(1)))
    told = [begin, items, step, builder.bitcast(frame, _AT)]
    with builder.if_else(builder.icmp_signed("<=", threads, I64(1))) as (by_one, by_all):
        with by_one:
            builder.call(loop, told)
        with by_all:
            name = "numba_parallel_for"
            launch = cgutils.get_or_insert_function(builder.module, _PARALLEL_FOR, name)
            lock = python.gil_ensure()
            this_thread = python.save_thread()
            builder.call(launch, [loop, *told, I64(0), I64(1), builder.trunc(threads, I32)])
            python.restore_thread(this_thread)
            python.gil_release(lock)


def _loop(builder: Builder, kind: Any, count: int, call: Callable[..., None]) -> Any:
    """The function that the threads call: some of the items, each one part of the units."""
    name = builder.module.get_unique_name(f"{builder.function.name}.part")
    function = ir.Function(builder.module, _LOOP, name)
    function.linkage = "internal"
    inside = ir.IRBuilder(function.append_basic_block())
    arguments, items, _, at = function.args
    frame = inside.bitcast(at, kind)
    units, threads, failed, *told = (
        inside.load(cgutils.gep_inbounds(inside, frame, 0, place)) for place in range(count)
    )
    begin = inside.ptrtoint(inside.load(arguments), I64)
    with cgutils.for_range(inside, inside.load(items)) as loop:
        item = inside.add(begin, loop.index)
        first, last = (
            inside.sdiv(inside.mul(number, units), threads)
            for number in (item, inside.add(item, I64(1)))
        )
        inside.assume(inside.icmp_signed(">=", first, I64(0)))  # an index is not from the end
        call(inside, first, last, told, failed)
    inside.ret_void()
    return function


share_out: Any = _share_out if NOT_COMPILED else _compiled
"""`share_out(work, units, size, arguments)`, in compiled code: call `work(first, last, *arguments)`
for parts of range(units), by the calling thread alone where there are no more than `SERIAL`
elements.

Each thread gets one part, of nearly the same size. `arguments` is a tuple of numbers and arrays,
`work` is `inner` and returns nothing. MemoryError where a part raised anything: kernels raise
nothing else.
"""

start_threads()
