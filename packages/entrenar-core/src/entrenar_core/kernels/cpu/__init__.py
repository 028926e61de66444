"""Numba versions of the kernels, float32, one file for each file of references.

Every one is here because it was measured to be faster (`benchmarks/kernels.py`). The only package
that imports numba.
"""
