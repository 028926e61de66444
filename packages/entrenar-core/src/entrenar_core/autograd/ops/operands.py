"""What operations take beside tensors: numbers, lists, and arrays of integers.

NumPy's own promotion would make float64 of float32 beside int64. Here the floats decide.
"""

from typing import Any

import numpy as np

_NO_NUMBERS = "OUSMmc"
"""Kinds of arrays that no operation takes: objects, texts, dates, complex numbers."""


def operands(*values: Any, floating: bool = False) -> list[Any]:
    """`values` as arrays, and Python numbers as they are, such that NumPy keeps the floats' dtype.

    Integers, booleans and lists take the dtype of the float array beside them. Without one they
    keep their own, unless a Python float is beside them or the result has to be `floating`: then
    they become float32. Raises ValueError for what is no number.
    """
    if _fit_already(values):
        return list(values)
    plain = [_plain(v) for v in values]
    dtype = next((v.dtype for v in values if _is_float(v)), None)
    if dtype is None and (floating or any(isinstance(v, float) or _is_float(v) for v in plain)):
        dtype = np.dtype(np.float32)
    lists = [isinstance(v, list | tuple) for v in values]
    converted = [_in(dtype, v, was) for v, was in zip(plain, lists, strict=True)]
    if not any(isinstance(v, np.ndarray) for v in converted):
        return [np.asarray(v, dtype) for v in converted]
    return converted


def floating(x: Any) -> Any:
    """x as an array of floats: integers, lists and numbers become float32."""
    return operands(x, floating=True)[0]


def array(x: Any) -> Any:
    """x as an array of any numbers; lists and numbers as `Tensor` takes them."""
    return x if isinstance(x, np.ndarray) else operands(x)[0]


def _fit_already(values: tuple[Any, ...]) -> bool:
    """Whether they are float arrays, which `@op` has given one dtype, and Python's numbers."""
    arrays = 0
    for value in values:
        if type(value) is np.ndarray and value.dtype.kind == "f":
            arrays += 1
        elif type(value) is not float and type(value) is not int:
            return False
    return arrays > 0


def _is_float(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.kind == "f"


def _plain(value: Any) -> Any:
    if isinstance(value, bool | int | float):
        return value
    if isinstance(value, np.generic):
        value = value.item()
        return _plain(value) if isinstance(value, bool | int | float) else np.asarray(value)
    if value is None:
        raise ValueError("an operand is missing")
    found = np.asarray(value)
    if found.dtype.kind in _NO_NUMBERS:
        raise ValueError(f"{type(value).__name__} of {found.dtype} is no array of real numbers")
    return found


def _in(dtype: Any, value: Any, was_list: bool) -> Any:
    if not isinstance(value, np.ndarray) or dtype is None:
        return value
    return value.astype(dtype, copy=False) if was_list or value.dtype.kind in "biu" else value
