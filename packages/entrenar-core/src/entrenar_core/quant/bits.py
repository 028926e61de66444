"""Codes of a few bits, without gaps between them."""

import numpy as np


def pack(codes: np.ndarray, bits: int) -> np.ndarray:
    """Codes below 2^bits (n,) uint8 as ⌈n/8⌉·bits bytes.

    Code i is the bits i·bits and up of a little-endian number, so of two codes of 4 bits the first
    is the lower half of a byte.

    >>> pack(np.array([1, 2, 3], np.uint8), 4).tolist()
    [33, 3, 0, 0]
    """
    padded = np.zeros(-(-codes.size // 8) * 8, np.uint64)
    padded[: codes.size] = codes
    words = padded.reshape(-1, 8) << (np.arange(8, dtype=np.uint64) * np.uint64(bits))
    whole = np.bitwise_or.reduce(words, axis=1).astype("<u8")  # eight codes in each
    return np.ascontiguousarray(whole[:, None].view(np.uint8)[:, :bits]).reshape(-1)


def unpack(data: np.ndarray, bits: int, count: int) -> np.ndarray:
    """The first `count` codes of what `pack` made: uint8 (count,)."""
    words = np.zeros((data.size // bits, 8), np.uint8)
    words[:, :bits] = data.reshape(-1, bits)
    shifts = np.arange(8, dtype=np.uint64) * np.uint64(bits)
    codes = words.view("<u8") >> shifts & np.uint64(2**bits - 1)
    return codes.astype(np.uint8).reshape(-1)[:count]
