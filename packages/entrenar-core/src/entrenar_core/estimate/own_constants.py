"""What was measured of this library's own memory: everything else follows from shapes.

Fitted by `benchmarks/memory.py --fit` on half of its configurations; the other half says how well
that predicts (docs/lab-notes.md).
"""

FITTED = "roughly, on 26 November 2026"
"""When, and where."""

BASE = 215 * 2**20
"""Python with NumPy, the compiled kernels, the work space of OpenBLAS: bytes."""
FRAGMENTS = 0.02
"""Bytes for each byte that comes and goes: what the allocator cannot use of what it holds."""
