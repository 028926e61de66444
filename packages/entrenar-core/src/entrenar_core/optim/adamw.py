"""AdamW: Adam with a weight decay that is apart from the gradient."""

from collections.abc import Mapping

from entrenar_core.autograd import Parameter
from entrenar_core.optim.adam import Adam, AdamOptions
from entrenar_core.optim.groups import Decays, decays_matrices


class AdamW(Adam):
    """`Adam` after p ← p·(1 − lr·λ), instead of λp in the gradient. `decays` says of which
    parameters, unless their group says it: of matrices only, where nothing else is given.

    >>> import numpy as np
    >>> weight = Parameter(np.ones((2, 2)))
    >>> optimizer = AdamW({"weight": weight}, weight_decay=0.1)
    >>> optimizer.step(0.5)
    0.0
    >>> weight.data[0]
    array([0.95, 0.95])

    Source: Loshchilov and Hutter 2019, arXiv:1711.05101.
    """

    kind = "adamw"
    decoupled = True

    def __init__(
        self,
        parameters: Mapping[str, Parameter],
        *,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        amsgrad: bool = False,
        maximize: bool = False,
        state_bits: int = 32,
        lr_scale: float = 1.0,
        decays: Decays = decays_matrices,
        groups: Mapping[str, AdamOptions] | None = None,
    ):
        super().__init__(
            parameters, beta1=beta1, beta2=beta2, eps=eps, weight_decay=weight_decay,
            amsgrad=amsgrad, maximize=maximize, state_bits=state_bits, lr_scale=lr_scale,
            decays=decays, groups=groups,
        )  # fmt: skip
