"""`ops.logit_loss`."""

import numpy as np

from entrenar_core.autograd import ops
from entrenar_core.distill import Divergence
from op_cases import case

DRAWS = np.random.default_rng(7)
"""Of its own, so that the inputs of other operations stay what they are."""
LABELS = np.array([4, -100, 0, 2])


def _case(temperature, alpha):
    expected = DRAWS.standard_normal((4, 5))

    def call(logits):
        return ops.logit_distillation(
            logits, expected, LABELS, divergence=Divergence(temperature=temperature), alpha=alpha,
            normalizer=3, parts=ops.DistillationParts(),
        )  # fmt: skip

    def torch(t, logits):
        f, labels = t.nn.functional, t.tensor(LABELS)
        q, p = (
            f.log_softmax(each[labels >= 0] / temperature, -1)
            for each in (logits, t.tensor(expected, dtype=logits.dtype))
        )
        kl = f.kl_div(q, p, reduction="sum", log_target=True) / 3
        return alpha * temperature**2 * kl + (1 - alpha) * f.cross_entropy(logits, labels)

    return case("logit_distillation", call, DRAWS.standard_normal((4, 5)), torch=torch)


CASES = [_case(1.0, 1.0), _case(3.0, 0.4)]
