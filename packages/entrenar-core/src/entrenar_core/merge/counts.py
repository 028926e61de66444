"""Whether a method takes as many models as it is given."""

from collections.abc import Sequence

from entrenar_core.merge.method import Method
from entrenar_core.merge.reference import ModelRef


def counted_base(method: Method, base: ModelRef | None) -> ModelRef | None:
    """The base, unless to `method` it is a model as all others."""
    return None if method.base == "ignored" else base


def wrong_count(method: Method, models: Sequence[ModelRef], base: ModelRef | None) -> str | None:
    """What is wrong with `models`, the base among them, as the inputs of `method`; None if
    nothing is."""
    twice = {str(model) for model in models if models.count(model) > 1}
    if twice:
        return f"{', '.join(sorted(twice))} is given twice"
    base = counted_base(method, base)
    if base is None and method.base == "required":
        return f"{method.name} needs a base_model"
    if base is not None and base not in models:
        return f"the base_model {base} is not among the models"
    count = len(models)
    return _outside(method, count, method.inputs, what="models") or _outside(
        method,
        count - (base is not None),
        method.models,
        what="models besides the base" if base is not None else "models",
    )


def _outside(
    method: Method, count: int, limits: tuple[int, int | None], *, what: str
) -> str | None:
    least, most = limits
    if count >= least and (most is None or count <= most):
        return None
    if least == most:
        due = f"{least}"
    else:
        due = f"at least {least}" if count < least else f"at most {most}"
    return f"{method.name} merges {due} {what}, and there are {count}"
