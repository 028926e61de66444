"""Frozen weights as products in bfloat16 read them."""

from typing import Any

from entrenar_core.autograd import Parameter
from entrenar_core.kernels import is_narrow, packed_bf16
from entrenar_core.nn import Projection, modules


def pack(model: Any) -> None:
    """Lay out the matrices of `model` that are kept in bfloat16, not trained and multiplied by, in
    the order in which the processor takes them: once, and not in every product.

    The numbers stay what they are. Where the processor has no instructions for bfloat16, nothing
    happens.
    """
    axes = {
        id(module.weight): (module.weight, module.output_axis)
        for module in dict(modules(model)).values()
        if isinstance(module, Projection)
    }
    head = getattr(model, "output_weight", None)
    if isinstance(head, Parameter):
        axes.setdefault(id(head), (head, 0))
    for parameter, output_axis in axes.values():
        matrix = parameter.data
        if parameter.requires_grad or not is_narrow(matrix) or matrix.dtype.name != "bfloat16":
            continue
        parameter.data = packed_bf16(matrix) if output_axis == 0 else packed_bf16(matrix.T).T
