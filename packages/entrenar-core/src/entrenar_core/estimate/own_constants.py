"""What was measured of this library's own memory: everything else follows from shapes.

Fitted by `benchmarks/memory.py` on half of its configurations; the other half says how well that
predicts (docs/lab-notes.md).
"""

FITTED = "benchmarks/memory.py, 26 November 2026"
"""By what, and when."""

BASE = 182_103_785
"""Python with NumPy, the compiled kernels and the work space of OpenBLAS: bytes."""

STARTED = 48_200_000
"""The part of BASE that is there before the first kernel is called, as while a model is loaded;
read in such a process."""

FRAGMENTS = 0.4053
"""Of what only the loss or only the backward pass needs, the smaller of the two: the share that
does not fit into what the other left. The same for the blocks and the logits of a model that is
run."""

PROGRAM = 14_200_000
"""What a program that reads configurations has in memory besides: read in such a process, beside
one that BASE is of."""

DISTILLED = "±6% measured on 14 distillations (12 of benchmarks/distillation_memory.py)"
"""How far predictions of whole distillations were from real processes: docs/lab-notes.md."""
