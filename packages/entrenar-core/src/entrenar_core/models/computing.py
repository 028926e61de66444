"""What a model that is used, and not trained, computes in: how it keeps its weights, and by which
products it multiplies. `COMPUTING` has the choices by name."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from entrenar_common.errors import UnsupportedError
from entrenar_core.autograd import Tensor
from entrenar_core.autograd.precision import BF16_USED, INT8, WHOLE, Products, multiplied_in
from entrenar_core.kernels import Held
from entrenar_core.models.base import load
from entrenar_core.models.packing import pack
from entrenar_core.nn import Projection, modules
from entrenar_core.quant import Format, Panels

FLOAT32 = "float32"
"""What is computed in where nothing else is asked for."""


@dataclass(frozen=True)
class Computing:
    """A model is loaded with this `dtype` and `quantize` (see `models.load`), and its operations
    multiply by `products`."""

    dtype: str = FLOAT32
    quantize: Format | None = None
    products: Products = WHOLE


COMPUTING: Mapping[str, Computing] = {
    FLOAT32: Computing(),
    "bf16": Computing(dtype="bfloat16", products=BF16_USED),
    "int8": Computing(quantize=Panels(), products=INT8),
}
"""The choices. bf16: matrices are bfloat16, and what they are multiplied by is rounded to it. int8:
weights of projections and activations are integers of 8 bits. Everything else is float32."""


def load_for(path: Path, compute: str, *, head: str | None = None) -> Any:
    """The model at `path`, to be used inside `computed_in(compute)`.

    Raises UnsupportedError for another name than those in `COMPUTING`, and what `models.load`
    raises, NumericsError for a weight that is not finite and has to be rounded among it.
    """
    chosen = _chosen(compute)
    model = load(path, head=head, dtype=chosen.dtype, quantize=chosen.quantize)
    pack(model)
    if chosen.quantize is not None and chosen.quantize.holds_output:
        _copy_output(model, chosen.quantize)
    return model


@contextmanager
def computed_in(compute: str) -> Iterator[None]:
    """Inside, models of `load_for` compute as they were loaded to. UnsupportedError as there."""
    with multiplied_in(_chosen(compute).products):
        yield


def _chosen(compute: str) -> Computing:
    found = COMPUTING.get(compute)
    if found is None:
        raise UnsupportedError(
            f"nothing computes in {compute!a}", hint=f"use one of {', '.join(COMPUTING)}"
        )
    return found


def _copy_output(model: Any, form: Format) -> None:
    """Let an output projection that is tied to a table, which stays as it is, multiply by a copy
    in `form`."""
    tied = getattr(model, "output_weight", None)
    if tied is None or isinstance(tied.data, Held):
        return
    for _, module in modules(model):
        if isinstance(module, Projection) and module.weight is tied:
            module.copy = Tensor(Held(form.quantize(tied.data)))
