"""The loss between tokenizers beside PyTorch, written from the definitions over whole logits."""

import numpy as np
import pytest

from byte_tokenizers import of_kind
from entrenar_core.autograd import Tensor, ops
from entrenar_core.data.batches import Batches
from entrenar_core.data.documents import TokenizedDocuments
from entrenar_core.data.spelling import Spelling
from entrenar_core.distill.aligned_batch import AlignedRows
from entrenar_core.distill.alignment import align
from entrenar_core.distill.matching import match
from entrenar_core.kernels.divergences import Divergence

pytestmark = pytest.mark.parity

TEXTS = [
    "the cat and the dog see the other cats",
    "def encode(self, text): naïve café 漢字 🙂",
    "A red fox runs under the old tree; it sees the house.",
] * 2
WIDTH, TEMPERATURE, ALPHA = 12, 1.7, 0.6
PAIRS = [
    ("few merges", "many merges"),
    ("many merges", "few merges"),
    ("bytes", "many merges"),
    ("few merges", "pieces"),
    ("few merges", "few merges"),
]


def divergence(torch, name, p, q):
    """Of two distributions in which some outcomes have no probability."""

    def kl(a, b):
        there = a > 0
        return (a[there] * (a[there] / b[there]).log()).sum()

    if name == "forward_kl":
        return kl(p, q)
    if name == "tvd":
        return (p - q).abs().sum() / 2
    if name == "jsd":
        beta = 0.3
        m = beta * p + (1 - beta) * q
        return (beta * kl(p, m) + (1 - beta) * kl(q, m)) / (beta * (1 - beta))
    if name == "skewed_forward_kl":
        return kl(p, 0.2 * p + 0.8 * q)
    return kl(q, 0.8 * p + 0.2 * q)


def merged(logits, tokens):
    """softmax at the first place times the probabilities of the tokens that came at the others."""
    found = logits[0].softmax(-1)
    for row, token in zip(logits[1:], tokens[1:], strict=True):
        found = found * row.softmax(-1)[token]
    return found


def from_the_definitions(torch, logits, told, labels, beside, matching, name):
    """Loss per group and per labelled token, from whole logits (n, V) and (m, W)."""
    divergences, differences = torch.zeros(()), torch.zeros(())
    for first, count, place, their_count in beside.groups.tolist():
        ours, theirs = slice(first, first + count), slice(place, place + their_count)
        q = merged(logits[ours, : matching.student_ids] / TEMPERATURE, labels[ours])
        p = merged(told[theirs, : matching.teacher_ids] / TEMPERATURE, beside.targets[theirs])
        q_pairs, p_pairs = q[matching.student], p[matching.teacher]
        if count == 1 and len(matching.student) == matching.student_ids:
            p_all, q_all = p_pairs / p_pairs.sum(), q_pairs
        else:
            p_all, q_all = (
                torch.cat([each, (1 - each.sum()).clamp(min=0)[None]])
                for each in (p_pairs, q_pairs)
            )
            # what is 0 for the teacher is not by rounding a little more
            if their_count == 1 and len(matching.teacher) == matching.teacher_ids:
                p_all = torch.cat([p_pairs, torch.zeros(1)])
        divergences = divergences + divergence(torch, name, p_all, q_all)
        q_rest = q[matching.student_only].sort(descending=True).values
        p_rest = p[matching.teacher_only].sort(descending=True).values
        width = max(len(q_rest), len(p_rest))
        padded = [
            torch.nn.functional.pad(each, (0, width - len(each))) for each in (q_rest, p_rest)
        ]
        differences = differences + (padded[0] - padded[1]).abs().sum()
    soft = matching.matched_weight * divergences + matching.sorted_weight * differences
    hard = torch.nn.functional.cross_entropy(
        logits, torch.from_numpy(labels), ignore_index=-100, reduction="mean"
    )
    return ALPHA * TEMPERATURE**2 * soft / len(beside.groups) + (1 - ALPHA) * hard


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(
    "name", ["forward_kl", "jsd", "skewed_forward_kl", "skewed_reverse_kl", "tvd"]
)
@pytest.mark.parametrize("names", PAIRS)
def test_value_and_gradients_are_those_of_the_definitions(names, name, dtype):
    torch = pytest.importorskip("torch")
    student, teacher = (of_kind(each) for each in names)
    sides = Spelling(student), Spelling(teacher)
    sizes = [len(text.encode()) for text in TEXTS]
    documents = TokenizedDocuments.from_arrays(TEXTS, student.encode_many(TEXTS), sizes)
    batch = Batches(
        documents, seq_len=24, batch_size=2, seed=3, eos_id=student.eos_id, pad_id=student.pad_id
    ).batch(0)
    beside = AlignedRows(align(TEXTS, documents, *sides), teacher.eos_id, 64).read(batch)
    matching = match(*sides)
    assert (beside.groups[:, [1, 3]] > 1).any() or names[0] == names[1]
    rng = np.random.default_rng(0)
    # the same numbers for both widths, with some rows for no id in the teacher's head
    hidden, weight, told, head = (
        rng.standard_normal(shape).astype(np.float32)
        for shape in (
            (*batch.ids.shape, WIDTH), (student.vocab_size, WIDTH),
            (len(beside.places), WIDTH), (teacher.vocab_size + 5, WIDTH),
        )
    )  # fmt: skip
    wanted_hidden, wanted_weight = (
        torch.tensor(each.astype(np.float64), requires_grad=True) for each in (hidden, weight)
    )
    wanted = from_the_definitions(
        torch, wanted_hidden.reshape(-1, WIDTH) @ wanted_weight.T,
        torch.tensor(told.astype(np.float64) @ head.astype(np.float64).T),
        batch.labels.reshape(-1), beside, matching, name,
    )  # fmt: skip
    wanted.backward()

    found_hidden, found_weight = (
        Tensor(each.astype(dtype), requires_grad=True) for each in (hidden, weight)
    )
    teachers = ops.FromHidden(told.astype(dtype), head.astype(dtype), shared=matching.teacher_ids)
    loss = ops.linear_aligned_distillation(
        found_hidden, found_weight, batch.labels,
        aligned=ops.Aligned(teachers, beside.targets, beside.groups, matching),
        divergence=Divergence(name, TEMPERATURE, beta=0.3, skew=0.2), alpha=ALPHA,
        normalizer=batch.targets, groups=len(beside.groups), parts=ops.AlignedParts(),
    )  # fmt: skip
    loss.backward()
    bound = 1e-11 if dtype == "float64" else 1e-5
    assert loss.item() == pytest.approx(wanted.item(), rel=bound)
    for mine, theirs in ((found_hidden, wanted_hidden), (found_weight, wanted_weight)):
        expected = theirs.grad.numpy()
        assert np.abs(mine.grad - expected).max() <= bound * np.abs(expected).max()
