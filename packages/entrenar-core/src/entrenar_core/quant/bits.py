"""Codes of a few bits, without gaps between them."""

import numpy as np


def pack(codes: np.ndarray, bits: int) -> np.ndarray:
    """Codes below 2^bits (n,) uint8 as ⌈n/8⌉·bits bytes.

    Code i is the bits i·bits and up of a little-endian number, so of two codes of 4 bits the first
    is the lower half of a byte.

    >>> pack(np.array([1, 2, 3], np.uint8), 4).tolist()
    [33, 3, 0, 0]
    """
    # words that hold whole codes: bytes where that is possible, else eight codes in 64 bits
    word, each = _word(bits)
    padded = np.zeros((-(-codes.size // 8) * 8 // each, each), np.uint8)
    padded.reshape(-1)[: codes.size] = codes
    words = padded[:, 0].astype(word)
    for place in range(1, each):
        words |= padded[:, place].astype(word) << word.type(place * bits)
    data = words[:, None].view(np.uint8)[:, : each * bits // 8]
    return np.ascontiguousarray(data).reshape(-1)


def unpack(data: np.ndarray, bits: int, count: int) -> np.ndarray:
    """The first `count` codes of what `pack` made: uint8 (count,)."""
    word, each = _word(bits)
    used = each * bits // 8
    padded = np.zeros((data.size // used, word.itemsize), np.uint8)
    padded[:, :used] = data.reshape(-1, used)
    words = padded.reshape(-1).view(word)
    codes = np.empty((words.size, each), np.uint8)
    for place in range(each):
        codes[:, place] = words >> word.type(place * bits) & word.type(2**bits - 1)
    return codes.reshape(-1)[:count]


def _word(bits: int) -> tuple[np.dtype, int]:
    """The type of a word, and how many codes it holds."""
    return (np.dtype("<u8"), 8) if 8 % bits else (np.dtype(np.uint8), 8 // bits)
