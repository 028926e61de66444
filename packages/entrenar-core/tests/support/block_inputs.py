"""Rows of 256 numbers on which encoders of block formats go wrong, by what is special in them."""

import numpy as np

COLUMNS = 256
ROWS = 48


def block_inputs() -> dict[str, np.ndarray]:
    """float32 (rows, 256) by name."""
    rng = np.random.default_rng(0)
    shape = ROWS, COLUMNS
    normal = rng.standard_normal(shape, np.float32)
    powers = np.exp2(np.round(np.linspace(-149, 120, ROWS)))[:, None].astype(np.float32)
    signs = np.where(rng.random(shape) < 0.5, np.float32(1), np.float32(-1))
    largest = np.finfo(np.float32).max
    any_bits = rng.integers(0, 2**32, (4 * ROWS, COLUMNS), np.uint32).view(np.float32)
    weights = (0.02 * rng.standard_t(4, (8 * ROWS, COLUMNS))).astype(np.float32)
    return {
        "normal": normal,
        "like weights": weights,
        "like bfloat16 weights": (weights.view(np.uint32) & 0xFFFF0000).view(np.float32),
        "zeros": np.zeros(shape, np.float32),
        "mostly zeros": np.where(rng.random(shape) < 0.95, np.float32(0), normal),
        "one number everywhere": np.broadcast_to(normal[:, :1], shape).copy(),
        "parts of one number": np.repeat(normal[:, :8], 32, axis=1),
        "all positive": np.abs(normal) + 1,
        "all negative": -np.abs(normal) - 1,
        "one is far out": np.where(rng.random(shape) < 0.01, 1000 * normal, normal),
        "parts of other sizes": normal * np.repeat(10 ** (4 * normal[:, :8]), 32, axis=1),
        "magnitudes that tie": signs * powers,
        "numbers between two codes": rng.integers(-31, 32, shape).astype(np.float32) / 2 * powers,
        "subnormal": rng.integers(-(2**23), 2**23, shape) * np.float32(2.0**-149),
        "scales of every size": normal * powers,
        "float16 scales at their ends": normal * 2.0 ** rng.choice([-26, -24, -14, 15, 18], shape),
        "the largest": signs * largest,
        "the largest among zeros": np.where(rng.random(shape) < 0.1, signs * largest, 0),
        "any bits": np.where(np.isfinite(any_bits), any_bits, np.float32(0)),
    }


BLOCK_INPUTS = {
    # zeros are positive: gguf and ggml disagree about the sign of some that are not
    name: np.ascontiguousarray(x, np.float32) + np.float32(0)
    for name, x in block_inputs().items()
}


def stored_blocks(size: int) -> np.ndarray:
    """Any bytes, as rows of blocks of `size` bytes: uint8 (300, 4·size)."""
    return np.random.default_rng(1).integers(0, 256, (300, 4 * size), np.uint8)
