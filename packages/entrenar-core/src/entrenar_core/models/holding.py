"""What the weights of a model are kept as in memory: float32 or float64, 16 bits, or few bits."""

from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from entrenar_common.errors import NumericsError, ShapeError, UnsupportedError
from entrenar_core.kernels import Held
from entrenar_core.models.stored import StoredModel
from entrenar_core.nn import Embedding, Projection, modules
from entrenar_core.quant import Format, Stored

HELD = {"bfloat16": np.dtype(ml_dtypes.bfloat16), "float16": np.dtype(np.float16)}
"""What `dtype` may be besides where a model is loaded to be used and not trained."""


AS_STORED = "stored"
"""Instead of a format: each matrix in the few bits that its file has it in, if it has."""


FEW_BITS = 16
"""With so many bits each, and more, numbers are not in few bits."""


class Keeping:
    """How the parameters of the model on a disk are kept: matrices of projections in `form`, if it
    is given, other matrices as `matrices`, and the rest as `dtype`.

    What belongs to a head and tables of vectors are not in `form`, and the output projection only
    where the format `holds_output`, and it is not tied to a table.
    """

    def __init__(
        self, found: StoredModel, *, dtype: str, matrices: Any, form: Format | str | None
    ) -> None:
        self.found, self.dtype, self.matrices, self.form = found, dtype, matrices, form
        output = isinstance(form, Format) and form.holds_output
        self._axes = {} if form is None else _output_axes(found.model, output=output)

    def read(self, name: str) -> np.ndarray | Held:
        """The values of the parameter called `name`.

        Raises UnsupportedError for what is no float, ShapeError or NumericsError for a matrix that
        the format cannot store.
        """
        kept = self._in_few_bits(name) if name in self._axes else None
        if kept is None:
            array = self.found.read(name)
            kept = self._as_floats(name, array, self.matrices if array.ndim >= 2 else self.dtype)
        self.found.release(name)
        return kept

    def _in_few_bits(self, name: str) -> Held | None:
        """None for a matrix that is kept as it is stored, which is not in few bits."""
        there, form = self.found.held(name), self.form
        stored = None if there is None else there.kept
        if not isinstance(form, Format):
            if there is None or form != AS_STORED:
                return None
            return _owned(there) if 8 * there.nbytes < FEW_BITS * there.size else None
        taken = form.taken(stored) if isinstance(stored, Stored) else None
        if there and taken is not None:
            kept = _owning(taken) if taken is stored else taken
            return Held(kept, transposed=there.transposed)
        array = self._as_floats(name, self.found.read(name), self.dtype)
        lies_by_inputs = self._axes[name] == 1  # and blocks run along the inputs
        try:
            kept = form.quantize(array.T if lies_by_inputs else array)
        except (ShapeError, NumericsError) as error:
            raise type(error)(
                f"{self.found.path}: {name} {array.shape} cannot be held in {form.name}: {error}",
                hint=error.hint,
            ) from None
        return Held(kept, transposed=lies_by_inputs)

    def _as_floats(self, name: str, array: np.ndarray, dtype: Any) -> np.ndarray:
        return _converted(self.found.path, name, array, dtype)


def _output_axes(model: Any, *, output: bool) -> dict[str, int]:
    """The axis of the outputs for every matrix that is to be kept in few bits, by its name; with
    that of the `output` projection."""
    head = id(getattr(model, "output_weight", None))
    found = dict(modules(model)).values()
    tables = {id(module.weight) for module in found if isinstance(module, Embedding)}
    axes = {id(m.weight): m.output_axis for m in found if isinstance(m, Projection)}

    def wanted(name: str, number: int) -> bool:
        return output if number == head else not model.is_of_head(name)

    return {
        name: axes[id(parameter)]
        for name, parameter in model.named_parameters().items()
        if id(parameter) in axes.keys() - tables and wanted(name, id(parameter))
    }


def _owned(held: Held) -> Held:
    return Held(_owning(held.kept), transposed=held.transposed)


def _owning(stored: Any) -> Any:
    """What is stored with arrays of its own, and not parts of a file in memory."""
    changes = {}
    for field in fields(stored):
        value = getattr(stored, field.name)
        if isinstance(value, np.ndarray):
            changes[field.name] = np.array(value)
        elif is_dataclass(value) and not isinstance(value, Format):
            changes[field.name] = _owning(value)
    return replace(stored, **changes)


def _converted(folder: Path, name: str, array: np.ndarray, dtype: Any) -> np.ndarray:
    if array.dtype.kind not in "fV" or array.dtype.itemsize < 2:
        raise UnsupportedError(
            f"{folder}: {name} is stored as {array.dtype}, which cannot be computed with",
            hint="give a checkpoint in float32, float16, bfloat16 or float64",
        )
    return np.ascontiguousarray(array.astype(dtype))
