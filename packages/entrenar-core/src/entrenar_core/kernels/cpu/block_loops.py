"""Loops over blocks: a routine is made of what is done with one block.

Sources and targets are given by address. An encoder reads float32 or bfloat16 and writes bytes, a
decoder reads bytes and writes float32; both are told how many blocks there are.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from entrenar_core.kernels.cpu.lanes import I16, Lanes, Variable, from_half, read, write
from entrenar_core.kernels.cpu.past_caches import result
from entrenar_core.kernels.cpu.vectors import (
    BYTES,
    F32,
    I32,
    I64,
    INTEGER,
    counting,
    place,
    routine,
)


def encoder(
    block: int, size: int, measure: Callable[[Lanes], Sequence[Lanes]]
) -> Callable[[Callable[..., Iterable[Lanes]]], Any]:
    """Make `build(x, *measured)`, which turns the `block` numbers of a block and what `measure(x)`
    has found of them into the parts of its `size` bytes, one behind the other, a routine over
    blocks. Its last argument is how many bytes a number of the source has: 4 for float32, 2 for
    bfloat16.

    The next block is measured before one is built: a scale is at the end of a long chain of
    operations, and the CPU has something to do meanwhile.
    """

    def decorate(build: Callable[..., Iterable[Lanes]]) -> Any:
        def of_width(builder: Any, source: Any, target: Any, blocks: Any, width: int) -> None:
            def numbers(i: Any) -> Lanes:
                return numbers_at(builder, place(builder, source, i, width * block), block, width)

            measured = [Variable(found) for found in measure(numbers(I64(0)))]
            with counting(builder, blocks) as i:
                following = builder.add(i, I64(1))
                is_last = builder.icmp_signed("==", following, blocks)
                of_following = measure(numbers(builder.select(is_last, i, following)))
                at = place(builder, target, i, size)
                for part in build(numbers(i), *(found.get() for found in measured)):
                    write(part, at)
                    at = builder.add(at, I64(part.bytes))
                for found, new in zip(measured, of_following, strict=True):
                    found.set(new)

        def loop(builder: Any, source: Any, target: Any, blocks: Any, width: Any) -> None:
            with builder.if_then(builder.icmp_signed(">", blocks, I64(0))):
                is_wide = builder.icmp_signed("==", width, I64(4))
                with builder.if_else(is_wide) as (wide, narrow):
                    with wide:
                        of_width(builder, source, target, blocks, 4)
                    with narrow:
                        of_width(builder, source, target, blocks, 2)

        return routine(INTEGER, INTEGER, INTEGER, INTEGER, name=build.__name__)(loop)

    return decorate


def numbers_at(builder: Any, at: Any, count: int, width: int) -> Lanes:
    """So many numbers at an address, float32 or, with a width of 2 bytes, bfloat16."""
    if width == 4:
        return read(builder, at, F32, count)
    return (read(builder, at, I16, count).wide() << 16).as_float()


def decoder(block: int, size: int) -> Callable[[Callable[[Any, Any], Iterable[Lanes]]], Any]:
    """Make `build(builder, at)`, which gives the numbers of the block at an address in vectors of
    32, a routine over blocks. Its last argument says whether to write past the caches, for which
    the target has to be aligned."""

    def decorate(build: Callable[[Any, Any], Iterable[Lanes]]) -> Any:
        def loop(builder: Any, source: Any, target: Any, blocks: Any, past: Any) -> None:
            written_once = builder.module.add_metadata([I32(1)])
            with counting(builder, blocks) as i:
                to = place(builder, target, i, 4 * block)
                for numbers in build(builder, place(builder, source, i, size)):
                    with builder.if_else(builder.icmp_signed("!=", past, I64(0))) as (yes, no):
                        with yes:
                            address = builder.inttoptr(to, numbers.value.type.as_pointer())
                            stored = builder.store(numbers.value, address)
                            stored.align = BYTES
                            stored.set_metadata("nontemporal", written_once)
                        with no:
                            write(numbers, to)
                    to = builder.add(to, I64(numbers.bytes))

        return routine(INTEGER, INTEGER, INTEGER, INTEGER, name=build.__name__)(loop)

    return decorate


def field(builder: Any, at: Any, offset: int, kind: Any, lanes: int = 0) -> Lanes:
    """What is at an offset in a block."""
    return read(builder, builder.add(at, I64(offset)), kind, lanes)


def scale_at(builder: Any, at: Any, offset: int) -> Lanes:
    """The float16 at an offset in a block, as float32."""
    return from_half(field(builder, at, offset, I16).wide())


def encoded(run: Any, x: np.ndarray, block: int, size: int) -> np.ndarray:
    """The rows of `x`, float32 or bfloat16, encoded by the compiled loop `run`."""
    assert x.shape[1] % block == 0
    x = np.ascontiguousarray(x)
    out = np.empty((len(x), x.shape[1] // block * size), np.uint8)
    run(x.ctypes.data, out.ctypes.data, x.size // block, x.itemsize)
    return out


def decoded(
    run: Any, blocks: np.ndarray, block: int, size: int, out: np.ndarray | None
) -> np.ndarray:
    """The rows of `blocks` decoded by the compiled loop `run`, into `out` unless it is None."""
    assert blocks.shape[1] % size == 0
    blocks = np.ascontiguousarray(blocks)
    shape = (len(blocks), blocks.shape[1] // size * block)
    assert out is None or (out.shape == shape and out.flags.c_contiguous)
    out, past = result(shape) if out is None else (out, False)
    run(blocks.ctypes.data, out.ctypes.data, out.size // block, int(past))
    return out
