"""Arguments for every kernel: what overrides are compared on and what the benchmark starts from.

The sizes are odd, one, or beyond 65,535 (where 16-bit counters and the grids of a GPU end), because
those are where kernels that are split in tiles go wrong.
"""

from entrenar_core.testing_cases import (
    aligned,
    attention,
    formats,
    layers,
    losses,
    low_bits,
    matrices,
    merging,
    scores,
    tallies,
    updates,
)
from entrenar_core.testing_cases.case import WIDE as WIDE
from entrenar_core.testing_cases.case import Case as Case
from entrenar_core.testing_cases.case import Draw as Draw

CASES: dict[str, list[Case]] = {
    name: cases
    for module in (
        matrices,
        layers,
        attention,
        losses,
        aligned,
        scores,
        updates,
        formats,
        low_bits,
        merging,
        tallies,
    )
    for name, cases in module.CASES.items()
}
"""For every kernel, by the name it has in `registry.KERNELS`."""
