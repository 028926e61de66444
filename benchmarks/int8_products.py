"""Products of integers of 8 bits beside entrenar's own float32 products, called in turns.

    env -u OPENBLAS_CORETYPE python benchmarks/int8_products.py [--seconds 4]

Rows M × K times the transposed of a weight N × K, in int8 per output and in q8_0: medians.
"""

import argparse
from statistics import median
from time import perf_counter

import numpy as np

from entrenar_core import kernels
from entrenar_core.kernels import Held
from entrenar_core.quant import Panels, quantize

ROWS, OUTPUTS, DEPTH = (1, 16, 1024), (768, 2048, 32_000), 768
LEAST_TURNS = 9


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=4.0, help="for each product (4)")
    seconds = parser.parse_args().seconds
    print("| M | N | float32, µs | int8, µs | × | G op/s | q8_0, µs | × |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    random = np.random.default_rng(0)
    for n in OUTPUTS:
        weight = random.standard_normal((n, DEPTH), np.float32)
        channels = Held(quantize(weight, Panels()))
        blocks = Held(Panels().taken(quantize(weight, "q8_0")))
        for m in ROWS:
            x = random.standard_normal((m, DEPTH), np.float32)
            plain, int8, q8_0 = _medians(x, (weight, channels, blocks), seconds)
            speed = 2e-3 * m * n * DEPTH / int8
            print(
                f"| {m} | {n} | {plain:.0f} | {int8:.0f} | {plain / int8:.1f} | {speed:.0f} "
                f"| {q8_0:.0f} | {plain / q8_0:.1f} |"
            )


def _medians(x: np.ndarray, weights: tuple, seconds: float) -> list[float]:
    """Microseconds of the product with each of the weights."""
    out = np.empty((len(x), len(weights[0])), np.float32)
    for weight in weights:
        kernels.matmul_int8(x, weight, trans_b=True, out=out)
    found: list[list[float]] = [[] for _ in weights]
    end = perf_counter() + seconds
    while perf_counter() < end or len(found[0]) < LEAST_TURNS:
        for times, weight in zip(found, weights, strict=True):
            started = perf_counter()
            kernels.matmul_int8(x, weight, trans_b=True, out=out)
            times.append(1e6 * (perf_counter() - started))
    return [median(times) for times in found]


if __name__ == "__main__":
    main()
