"""What does not fit is said with the operation, both shapes, the dtypes, and what to do."""

import re

import numpy as np
import pytest

from entrenar_common.errors import ConfigError, ShapeError, UnsupportedError
from entrenar_core.autograd import Tensor, ops
from entrenar_core.distill import Divergence, Matching
from entrenar_core.quant import Integer, format_named
from op_cases import all_cases


def f32(*shape):
    return Tensor(np.ones(shape, np.float32), requires_grad=True)


IDS = np.array([[0, 2], [9, 1]])
A, B = "float32 (2, 3)", "float32 (4,)"

# For each operation calls that cannot work, and what the message has to show.
MISTAKES = {
    "add": [(lambda: f32(2, 3) + f32(4), A, B)],
    "sub": [(lambda: f32(2, 3) - np.ones((4, 1, 5)), A, "float32 (4, 1, 5)")],
    "mul": [(lambda: f32(2, 3) * [1.0, 2.0], A, "[1.0, 2.0]")],
    "div": [(lambda: f32(2, 3) / f32(2, 2), A, "float32 (2, 2)")],
    "pow": [
        (lambda: f32(2, 3) ** f32(4), A, B),
        (lambda: ops.pow(Tensor([1, 2]), -1), "int64 (2,)", "-1"),
    ],
    "stored_ste": [
        (lambda: ops.stored_ste(f32(2, 3), form=format_named("q4_0")), A, "blocks of 32")
    ],
    "fake_quantize": [
        (lambda: ops.fake_quantize(f32(2, 3), f32(3), form=Integer(4)), "(2, 3)", "(3,)"),
        (lambda: ops.fake_quantize(f32(2, 3), f32(2), form=Integer(4), alpha=2.0), "alpha", "2.0"),
    ],
    "neg": [(lambda: ops.neg("text"), "'text'", "real numbers")],
    "exp": [(lambda: ops.exp(None), "missing")],
    "log": [(lambda: ops.log(["a"]), "['a']", "real numbers")],
    "sqrt": [(lambda: ops.sqrt(np.ones(2, complex)), "complex128 (2,)")],
    "abs": [(lambda: ops.abs([1.0, 1j]), "complex128")],
    "clip": [
        (lambda: ops.clip(f32(2, 3), f32(4)), A, B),
        (lambda: ops.clip(f32(2, 3)), A, "give min, max or both"),
    ],
    "maximum": [(lambda: ops.maximum(f32(2, 3), f32(4)), A, B)],
    "minimum": [(lambda: ops.minimum(f32(2, 3), f32(4)), A, B)],
    "where": [
        (lambda: ops.where(np.ones(5, bool), f32(2, 3), f32(3)), "bool (5,)", A, "float32 (3,)"),
        (lambda: ops.where(f32(2, 3), f32(2, 3), 0.0), A, "the condition is float32"),
    ],
    "astype": [(lambda: f32(2, 3).astype("int64"), A, "int64 carries no gradient")],
    "sum": [(lambda: f32(2, 3).sum(2), A, "axis 2")],
    "mean": [(lambda: f32(2, 3).mean((0, -3)), A, "axis -3")],
    "var": [(lambda: f32(2, 3).var(5), A, "axis 5")],
    "std": [(lambda: f32(2, 3).std((1, 1)), A, "duplicate")],
    "max": [
        (lambda: f32(2, 3).max(2), A, "axis 2"),
        (lambda: f32(0, 3).max(0), "float32 (0, 3)", "maximum"),
    ],
    "min": [(lambda: f32(3, 0).min(1), "float32 (3, 0)", "minimum")],
    "logsumexp": [(lambda: f32(2, 3).logsumexp(2), A, "axis 2")],
    "cumsum": [(lambda: f32(2, 3).cumsum(2), A, "axis 2")],
    "reshape": [(lambda: f32(2, 3).reshape(4, -1), A, "(4, -1)")],
    "transpose": [(lambda: f32(2, 3).transpose(0, 2), A, "2")],
    "permute": [
        (lambda: f32(2, 3).permute(0, 0), A, "(0, 0)"),
        (lambda: f32(2, 3).permute(0, 1, 2), A, "(0, 1, 2)"),
    ],
    "expand": [
        (lambda: f32(2, 3).expand(2, 4), A, "(2, 4)"),
        (lambda: f32(2, 3).expand(-1, 2, 3), A, "(-1, 2, 3)", "needs a length"),
    ],
    "squeeze": [(lambda: f32(2, 3).squeeze(0), A)],
    "unsqueeze": [(lambda: f32(2, 3).unsqueeze(4), A, "axis 4")],
    "flip": [(lambda: ops.flip(f32(2, 3), axis=2), A, "axis 2")],
    "pad": [(lambda: ops.pad(f32(2, 3), ((1, 1),) * 3), A, "(1, 1)")],
    "concat": [
        (lambda: ops.concat([f32(2, 3), f32(3, 2)]), A, "float32 (3, 2)"),
        (lambda: ops.concat([f32(2, 3), f32(2, 3)], axis=2), A, "axis 2"),
        (lambda: ops.concat([]), "at least one"),
    ],
    "stack": [(lambda: ops.stack([f32(2, 3), f32(4)]), A, B)],
    "split": [
        (lambda: ops.split(f32(2, 3), 2, axis=1), "(2, 3)", "into 2"),
        (lambda: ops.split(f32(2, 3), 0), "(2, 3)", "into 0"),
        (lambda: ops.split(f32(2, 3), [1, 2]), "(2, 3)", "[1, 2]"),
        (lambda: ops.split(f32(2, 3), [3, -1]), "(2, 3)", "[3, -1]"),
        (lambda: ops.split(f32(2, 3), 1, axis=2), "(2, 3)", "no axis 2"),
        (lambda: ops.split(f32(2, 3), 1, axis=-3), "(2, 3)", "no axis -3"),
    ],
    "getitem": [
        (lambda: f32(2, 3)[2], A, "at 2", "out of bounds"),
        (lambda: f32(2, 3)[..., None, 1:, 0.5], A, "at ..., None, 1:, 0.5"),
        (lambda: f32(2, 3)[:, ::2, 0], A, "at :, ::2, 0", "too many indices"),
        (lambda: f32(2, 3)[np.ones(3, bool)], A, "bool (3,)"),
        (lambda: f32(2, 3)[[0, 1], [0, 1, 2]], A, "int64 (2,), int64 (3,)"),
    ],
    "gather": [
        (lambda: ops.gather(f32(2, 3), IDS, axis=1), A, "int64 (2, 2)"),
        (lambda: ops.gather(f32(2, 3), np.zeros(2, int), axis=1), A, "int64 (2,)"),
        (lambda: ops.gather(f32(2, 3), np.zeros((2, 1)), axis=1), A, "indices are float"),
        (lambda: ops.gather(f32(2, 3), IDS, axis=2), A, "no axis 2"),
        (lambda: ops.gather(f32(2, 3), IDS, axis=-3), A, "no axis -3"),
    ],
    "scatter_add": [
        (lambda: ops.scatter_add(f32(2, 3), IDS, f32(2, 2), axis=1), A, "float32 (2, 2)"),
        (lambda: ops.scatter_add(f32(2, 3), IDS * 0, f32(4), axis=1), A, B),
    ],
    "matmul": [
        (lambda: f32(2, 3) @ f32(2, 3), A, A),
        (lambda: f32(2, 3) @ f32(4), A, B),
        (lambda: f32(4) @ f32(2, 3), B, A),
        (lambda: f32(2, 3) @ f32(), A, "float32 ()"),
        (lambda: f32() @ f32(2, 3), "float32 ()", A),
        (lambda: f32(3, 2, 3) @ f32(2, 3, 1), "float32 (3, 2, 3)", "float32 (2, 3, 1)"),
    ],
    "einsum": [
        (lambda: ops.einsum("ij,jk->ik", f32(2, 3), f32(2, 3)), A, "'j' is 3 long in one and 2"),
        (lambda: ops.einsum("ij,j->i", f32(2, 3), f32(3, 1)), A, "float32 (3, 1)", "one letter"),
        (lambda: ops.einsum("ij,jk", f32(2, 3)), A, "one letter"),
        (lambda: ops.einsum("ij->k", f32(2, 3)), A, "the result is 'k'"),
        (lambda: ops.einsum("ij->ii", f32(2, 3)), A, "the result is 'ii'"),
        (lambda: ops.einsum("i1->i", f32(2, 3)), A, "the result is 'i'"),
        (lambda: ops.einsum("ii->i", f32(3, 3)), "float32 (3, 3)", "repeats a letter"),
        (lambda: ops.einsum("i...->i", f32(2, 3)), A, "has ..."),
        (lambda: ops.einsum("i,i,i->i", *[f32(4)] * 3), B, "more than two"),
    ],
    "linear": [
        (lambda: ops.linear(f32(2, 3), f32(5, 4)), A, "float32 (5, 4)"),
        (lambda: ops.linear(f32(2, 3), f32(5, 3), f32(4)), A, "float32 (5, 3)", B),
    ],
    "embedding": [
        (lambda: ops.embedding(f32(2, 3), IDS), A, "int64 (2, 2)", "from 0 to 9"),
        (lambda: ops.embedding(f32(2, 3), [-1]), A, "int64 (1,)"),
        (lambda: ops.embedding(f32(2, 3), np.zeros(2)), A, "float"),
    ],
    "conv1d": [(lambda: ops.conv1d(f32(2, 3), f32(4, 5)), "(2, 3)", "(4, 5)")],
    "gelu_conv1d": [(lambda: ops.gelu_conv1d(f32(2, 3), f32(4, 5)), "(2, 3)", "(4, 5)")],
    "gelu_linear": [(lambda: ops.gelu_linear(f32(2, 3), f32(5, 4)), "(2, 3)", "(5, 4)")],
    "relu_linear": [(lambda: ops.relu_linear(f32(2, 3), f32(5, 4)), "(2, 3)", "(5, 4)")],
    "swiglu": [(lambda: ops.swiglu(f32(2, 3), f32(2, 4)), "(2, 3)", "(2, 4)")],
    "swiglu_linear": [
        (lambda: ops.swiglu_linear(f32(2, 3), f32(2, 3), f32(5, 4)), "(2, 3)", "(5, 4)")
    ],
    "softmax": [(lambda: ops.softmax(f32(2, 3), axis=2), "(2, 3)")],
    "log_softmax": [(lambda: ops.log_softmax(f32(2, 3), axis=2), "(2, 3)")],
    "rms_norm": [(lambda: ops.rms_norm(f32(2, 3), f32(4), eps=1e-5), "(2, 3)", "(4,)")],
    "layer_norm": [(lambda: ops.layer_norm(f32(2, 3), f32(4), eps=1e-5), "(2, 3)", "(4,)")],
    "rope": [(lambda: ops.rope(f32(1, 2, 1, 4), f32(2, 3), f32(2, 3)), "(1, 2, 1, 4)", "(2, 3)")],
    "attention": [
        (
            lambda: ops.attention(f32(1, 2, 3, 4), f32(1, 2, 2, 4), f32(1, 2, 2, 4), scale=1.0),
            "(1, 2, 3, 4)",
            "(1, 2, 2, 4)",
        )
    ],
    "attention_weights": [
        (
            lambda: ops.attention_weights(f32(1, 2, 3, 4), f32(1, 2, 2, 4), scale=1.0),
            "(1, 2, 3, 4)",
            "(1, 2, 2, 4)",
        )
    ],
    "split_heads": [
        (lambda: ops.split_heads(f32(1, 2, 7), part=0, parts=3, heads=2), "(1, 2, 7)")
    ],
    "linear_cross_entropy": [
        (
            lambda: ops.linear_cross_entropy(f32(2, 3), f32(5, 3), np.array([7, 1]), normalizer=1),
            "(2, 3)",
            "7",
        )
    ],
    "linear_distillation": [
        (
            lambda: ops.linear_distillation(
                f32(2, 3), f32(5, 3), np.array([1, 2, 3]),
                expected=ops.FromHidden(f32(2, 3).data, f32(5, 3).data, shared=5),
                divergence=Divergence(), alpha=0.5, normalizer=2, parts=ops.DistillationParts(),
            ),
            "(2, 3)",
            "(3,)",
        )
    ],
    "logit_distillation": [
        (
            lambda: ops.logit_distillation(
                f32(2, 5), np.ones((2, 4)), np.array([1, 4]), divergence=Divergence(), alpha=0.5,
                normalizer=2, parts=ops.DistillationParts(),
            ),
            "(2, 5)",
            "(2, 4)",
        ),
        (
            lambda: ops.logit_distillation(
                f32(2, 5), np.ones((2, 5)), np.array([1, 5]), divergence=Divergence(), alpha=0.5,
                normalizer=2, parts=ops.DistillationParts(),
            ),
            "up to 5",
        ),
    ],
    "linear_aligned_distillation": [
        (
            lambda: ops.linear_aligned_distillation(
                f32(2, 3), f32(5, 3), np.array([1, 2]),
                aligned=ops.Aligned(
                    ops.FromHidden(f32(1, 3).data, f32(5, 3).data, shared=5),
                    np.array([1]),
                    np.array([[2, 1, 0, 1]]),  # the third of two positions
                    Matching(np.arange(5), np.arange(5), 5, 5, 1.0, 0.0),
                ),
                divergence=Divergence(), alpha=0.5, normalizer=2, groups=1,
                parts=ops.AlignedParts(),
            ),
            "1 groups",
            "for 2 positions",
        )
    ],
    "cross_entropy": [
        (lambda: ops.cross_entropy(f32(2, 3), np.array([1, 2, 0])), "(2, 3)", "(3,)")
    ],
    "binary_cross_entropy": [
        (lambda: ops.binary_cross_entropy(f32(2, 3), np.ones(4)), "(2, 3)", "(4,)")
    ],
    "binary_cross_entropy_with_logits": [
        (lambda: ops.binary_cross_entropy_with_logits(f32(2, 3), np.ones(4)), "(2, 3)", "(4,)")
    ],
    "kl_divergence": [(lambda: ops.kl_divergence(f32(2, 3), f32(4)), "(2, 3)", "(4,)")],
    "mse": [(lambda: ops.mse(f32(2, 3), f32(4)), "(2, 3)", "(4,)")],
    "l1": [(lambda: ops.l1(f32(2, 3), f32(4)), "(2, 3)", "(4,)")],
    "smooth_l1": [(lambda: ops.smooth_l1(f32(2, 3), f32(4)), "(2, 3)", "(4,)")],
    "cosine_similarity": [
        (lambda: ops.cosine_similarity(f32(2, 3), f32(4)), "(2, 3)", "(4,)")
    ],
    "low_rank_linear": [
        (
            lambda: ops.low_rank_linear(f32(2, 3), f32(5, 4), f32(1, 4), f32(5, 1), scale=1.0),
            "3 features",
            "(5, 4)",
        ),
        (
            lambda: ops.low_rank_linear(f32(2, 4), f32(5, 4), f32(1, 4), f32(5, 2), scale=1.0),
            "(1, 4)",
            "(5, 2)",
        ),
    ],
    "low_rank_weight": [
        (
            lambda: ops.low_rank_weight(f32(5, 4), f32(1, 4), f32(6, 1), scale=1.0),
            "(5, 4)",
            "(6, 1)",
        )
    ],
    "info_nce": [
        (lambda: ops.info_nce(f32(2, 3), f32(2, 4), temperature=0.1), "(2, 3)", "(2, 4)")
    ],
}  # fmt: skip

FITS_ANYTHING = {
    "relu", "leaky_relu", "sigmoid", "tanh", "softplus", "silu", "swish", "gelu", "round_ste",
    "dropout",
}  # fmt: skip
"""Functions of one array element by element: no shape is wrong for them."""

CASES = [
    pytest.param(name, *mistake, id=f"{name}-{i}")
    for name, mistakes in MISTAKES.items()
    if hasattr(ops, name)
    for i, (*mistake,) in enumerate([(call, shown) for call, *shown in mistakes])
]


@pytest.mark.parametrize(("name", "call", "shown"), CASES)
def test_a_mistake_is_explained(name, call, shown):
    with pytest.raises((ConfigError, UnsupportedError)) as caught:
        call()
    message = str(caught.value)
    assert message.startswith((f"{name}:", f"{name} "))
    assert [text for text in shown if text not in message] == []
    assert caught.value.hint


def test_every_operation_has_a_mistake():
    assert {case.op for case in all_cases()} - FITS_ANYTHING <= MISTAKES.keys()


def is_float(value):
    return isinstance(value, np.ndarray) and value.dtype.kind == "f"


SEVERAL = {c.op: c for c in all_cases() if sum(map(is_float, c.inputs)) > 1}


@pytest.mark.parametrize("name", SEVERAL)
def test_tensors_of_two_types_are_refused(name):
    case, types = SEVERAL[name], iter(["float32", *["float64"] * 9])
    mixed = [Tensor(x.astype(next(types))) if is_float(x) else x for x in case.inputs]
    with pytest.raises(ShapeError, match="mixes float32 with float64") as caught:
        case.call(*mixed)
    message = str(caught.value)
    assert message.startswith(f"{name}: ")
    for x in mixed:
        assert not isinstance(x, Tensor) or f"{x.dtype} {x.shape}" in message
    assert re.search(r"astype", caught.value.hint)


def test_the_error_is_a_value_error_too():
    with pytest.raises(ValueError, match="add: "):
        f32(2, 3) + f32(4)
