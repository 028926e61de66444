"""Model folders with weights in 4 bits, as bitsandbytes and transformers write them.

A weight `w` in NF4 is the tensors `w` (codes), `w.absmax`, `w.quant_map` and, with double
quantization, `w.nested_absmax` and `w.nested_quant_map`; `w.quant_state.bitsandbytes__nf4` is JSON
in an array of bytes, with the shape and the offset.
Source: https://github.com/bitsandbytes-foundation/bitsandbytes, `QuantState` of `functional.py`.
"""

import os
from dataclasses import replace
from math import prod
from typing import Any, NoReturn

import numpy as np

from entrenar_common.errors import FormatError, UnsupportedError
from entrenar_common.text import escape_controls
from entrenar_core.io.dtypes import by_numpy
from entrenar_core.io.safetensors_folder import SafetensorsFolder
from entrenar_core.io.safetensors_header import MAX_RANK, MAX_TENSOR_BYTES, TensorInfo
from entrenar_core.io.strict_json import parse_json
from entrenar_core.kernels import Held
from entrenar_core.kernels.nf4 import ENTRIES
from entrenar_core.quant.nf4 import BLOCKS, DTYPES, NF4, NF4Array, Scales

STATE, FP4_STATE = ".quant_state.bitsandbytes__nf4", ".quant_state.bitsandbytes__fp4"
_SINGLE = {".absmax", ".quant_map", STATE}
_DOUBLE = {".nested_absmax", ".nested_quant_map"}
_HINT = "the folder is damaged or incomplete: fetch or write it again"


class FourBitFolder(SafetensorsFolder):
    """A model folder whose weights in NF4 appear as single float32 tensors of their own shape.

    `read` gives their numbers, `stored` what the file has. The tensors that describe them are not
    listed. All descriptions are checked at opening, and arrays when they are read.

    Raises what SafetensorsFolder raises, FormatError for tensors in NF4 that contradict each other,
    UnsupportedError for FP4, the other code of bitsandbytes.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        super().__init__(folder)
        try:
            names = set(super().names())
            self._states = {
                name.removesuffix(STATE): self._state(name, names)
                for name in sorted(names)
                if name.endswith((STATE, FP4_STATE))
            }
            self._companions = {
                f"{name}{end}" for name in self._states for end in _SINGLE | _DOUBLE
            }
        except BaseException:
            self.close()
            raise

    def names(self) -> list[str]:
        """The weights' names, sorted."""
        return [name for name in super().names() if name not in self._companions]

    def info(self, name: str) -> TensorInfo:
        """Shape and type of one weight; begin and end are those of its codes."""
        found = super().info(name)
        state = self._states.get(name)
        if state is None:
            return found
        return replace(found, dtype=by_numpy(np.dtype(np.float32)), shape=tuple(state["shape"]))

    @property
    def tensors(self) -> dict[str, TensorInfo]:
        """A TensorInfo for each weight; offsets are those in the tensor's own file."""
        return {name: self.info(name) for name in self.names()}

    def read(self, name: str) -> np.ndarray:
        """The weight as an array: float32 where it is in NF4, as it is stored elsewhere."""
        return self.stored(name).dequantize() if name in self._states else super().read(name)

    def held(self, name: str) -> Held | None:
        """The matrix with the bytes that the file has, where it is in NF4; None elsewhere."""
        found = self._states.get(name)
        return Held(self.stored(name)) if found and len(found["shape"]) == 2 else None

    def is_stored(self, name: str) -> bool:
        """Whether the weight is in NF4."""
        return name in self._states

    def stored(self, name: str) -> NF4Array:
        """The weight in NF4, with the bytes that the file has.

        Raises FormatError where its arrays do not fit, UnsupportedError for other entries than
        NF4's.
        """
        state = self._states[name]
        form, size = NF4(state["blocksize"], "nested_offset" in state), prod(state["shape"])
        codes = super().read(name).reshape(-1).view(np.uint8)
        scales = self._scales(name, state, -(-size // form.block))
        if codes.size < -(-size // 2):
            self._fail(name, f"{codes.size} bytes for {size} codes of 4 bits")
        if not np.array_equal(self._array(name, ".quant_map", np.float32, 16), ENTRIES):
            raise UnsupportedError(
                f"{self.path}: {escape_controls(name)}: its quant_map is not NF4's",
                hint="give a checkpoint that bitsandbytes wrote with bnb_4bit_quant_type nf4",
            )
        return NF4Array(form, tuple(state["shape"]), codes[: -(-size // 2)], scales, state["dtype"])

    def _scales(self, name: str, state: dict[str, Any], count: int) -> Scales:
        if "nested_offset" not in state:
            return Scales(self._array(name, ".absmax", np.float32, count))
        block = state["nested_blocksize"]
        return Scales(
            self._array(name, ".absmax", np.uint8, count),
            self._array(name, ".nested_absmax", np.float32, -(-count // block)),
            self._array(name, ".nested_quant_map", np.float32, 256),
            float(state["nested_offset"]),
            block,
        )

    def _array(self, name: str, end: str, dtype: type, size: int) -> np.ndarray:
        found = super().read(name + end)
        if found.dtype != dtype or found.size != size:
            self._fail(
                name,
                f"{end[1:]} is {found.dtype} of {found.size} elements, wanted "
                f"{np.dtype(dtype)} of {size}",
            )
        return found.reshape(-1)

    def _state(self, key: str, names: set[str]) -> dict[str, Any]:
        """The description in the tensor `key`, checked."""
        name = key.removesuffix(STATE)
        if key.endswith(FP4_STATE):
            raise UnsupportedError(
                f"{self.path}: {escape_controls(key.removesuffix(FP4_STATE))} is in FP4",
                hint="only NF4 is read: save the model with bnb_4bit_quant_type nf4",
            )
        raw = super().read(key)
        if raw.dtype != np.uint8:
            self._fail(name, f"its quant_state is {raw.dtype}, not bytes")
        try:
            state = parse_json(raw.tobytes().decode(), self.path)
        except UnicodeDecodeError:
            self._fail(name, "its quant_state is not UTF-8")
        if problem := _problem(state):
            self._fail(name, f"its quant_state {problem}")
        wanted = {name} | {name + end for end in _SINGLE}
        wanted |= {name + end for end in _DOUBLE} if "nested_offset" in state else set()
        if missing := sorted(wanted - names):
            self._fail(name, f"{escape_controls(missing[0])} is missing")
        return state

    def _fail(self, name: str, problem: str) -> NoReturn:
        raise FormatError(f"{self.path}: {escape_controls(name)}: {problem}", hint=_HINT)


def _problem(state: Any) -> str | None:
    """What is wrong with a description, or None."""
    if type(state) is not dict:
        return "is no JSON object"
    nested = {"nested_blocksize", "nested_dtype", "nested_offset"} & state.keys()
    shape = state.get("shape")
    checks = {
        "quant_type": state.get("quant_type") == "nf4",
        "blocksize": state.get("blocksize") in BLOCKS,
        "dtype": state.get("dtype") in DTYPES,
        "shape": _is_shape(shape),
        "nested_offset": not nested or type(state.get("nested_offset")) in (int, float),
        "nested_dtype": not nested or state.get("nested_dtype") == "float32",
        "nested_blocksize": not nested or state.get("nested_blocksize") in (*BLOCKS, 8192),
    }
    wrong = next((key for key, right in checks.items() if not right), None)
    return None if wrong is None else f"has {wrong} {state.get(wrong)!a}"


def _is_shape(shape: Any) -> bool:
    if type(shape) is not list or len(shape) > MAX_RANK:
        return False
    whole = all(type(n) is int and n >= 0 for n in shape)
    return whole and prod(n for n in shape if n) * 4 <= MAX_TENSOR_BYTES
