"""What losses of features take in this library's memory, in float32 numbers.

Read off `distill.features`: what the pullbacks of each loss hold. A test compares every one of them
with `autograd.memory_report`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from entrenar_core.estimate.distilling import Compared, Distilling
from entrenar_core.estimate.own_weights import FLOAT
from entrenar_core.estimate.setup import Setup
from entrenar_core.estimate.shape import ModelShape
from entrenar_core.estimate.terms import BACKWARD, FEATURES, LEARNING, LOSS, TEACHER, Term


@dataclass(frozen=True)
class Numbers:
    """What one pair of layers takes: for each token, and for each two tokens of one sequence."""

    tokens: float
    pairs: float = 0.0


@dataclass(frozen=True)
class Loss:
    """`kept(student, teacher, heads)` is what its pullbacks hold; `passing` what is there besides
    while it is computed; `of_heads`: it is about queries, keys and values."""

    kept: Callable[[ModelShape, ModelShape, int], Numbers]
    passing: Callable[[ModelShape, ModelShape, int], Numbers]
    of_heads: bool = False


def _of_rows(times: int, more: float) -> Loss:
    """A loss of rows (tokens, the teacher's width): `times` that many numbers are kept, and `more`.
    Both models' rows are there besides."""
    return Loss(
        lambda _, t, __: Numbers(times * t.blocks.hidden + more),
        lambda _, t, __: Numbers(2 * t.blocks.hidden),
    )


def _of_maps(more: float) -> Loss:
    """The rows of the student, and `more` numbers for each: lengths, and where they are 0."""
    return Loss(
        lambda s, _, __: Numbers(s.blocks.hidden + more),
        lambda _, __, ___: Numbers(0.0),
    )


def _of_products(rows: int, more: float, squares: float) -> Loss:
    """Rows of the student with their lengths, and matrices (tokens, tokens) of a sequence. As many
    matrices as are kept pass by of the teacher."""
    return Loss(
        lambda s, _, __: Numbers(rows * s.blocks.hidden + more, squares),
        lambda _, __, ___: Numbers(0.0, 4.0),
    )


def _vectors(shape: ModelShape, *, values: bool) -> int:
    blocks = shape.blocks
    return blocks.queries + (2 if values else 1) * blocks.keys


LOSSES: Mapping[str, Loss] = {
    "mse": _of_rows(2, 0),
    "cosine": _of_rows(2, 3),
    "pkd": _of_rows(4, 2.75),
    "similarity": _of_products(1, 2.75, 4.0),
    "rkd_distance": _of_products(2, 0.25, 5.25),
    "rkd_angle": _of_products(2, 0.25, 4.25),
    "transfer": _of_maps(3.25),
    "transfer_squared": _of_maps(4.25),
    "tinybert": Loss(
        # the rows of queries and keys; differences of scores, and their squares where they are seen
        lambda s, _, __: Numbers(_vectors(s, values=False), 2 * s.blocks.heads + 0.25),
        lambda s, _, __: Numbers(0.0, 3 * s.blocks.heads),
        of_heads=True,
    ),
    "minilm": Loss(
        # of queries, keys and values each: the rows; logarithms, probabilities, ratios, and where
        # something is hidden
        lambda s, _, heads: Numbers(_vectors(s, values=True) + 3 * heads, 3 * 4.25 * heads + 0.25),
        lambda _, __, heads: Numbers(0.0, 4 * heads),
        of_heads=True,
    ),
}


def kept(each: Compared, student: ModelShape, teacher: ModelShape) -> Numbers:
    """What the pullbacks of all pairs of a loss hold; those of a projection hold its input."""
    one = LOSSES[each.loss].kept(student, teacher, each.heads)
    rows = one.tokens + (student.blocks.hidden if each.learned else 0)
    return Numbers(len(each.pairs) * rows, len(each.pairs) * one.pairs)


def features(student: ModelShape, teacher: ModelShape, asked: Distilling) -> list[Term]:
    """The terms of `asked.compared`; none where nothing inside the models is compared."""
    if not asked.compared:
        return []
    setup, name = asked.setup, "teacher's features"
    theirs = FLOAT * setup.tokens * _of_pass(teacher, asked, side=1)
    ours = FLOAT * setup.tokens * _gradients(student, asked)
    graph = sum(_bytes(kept(each, student, teacher), setup) for each in asked.compared)
    graph += FLOAT * setup.tokens * _last_states(student, asked)
    why = "what is compared of the teacher, from its pass to the last loss"
    return [
        *_projections(student, teacher, asked),
        *(Term(name, theirs, why, when) for when in (TEACHER, LOSS, FEATURES)),
        *(
            Term("losses of features", graph, "what the way back needs of them", when)
            for when in (FEATURES, BACKWARD)
        ),
        Term("feature being compared", _passing(student, teacher, asked), "one pair", FEATURES),
        Term("gradients of features", ours, "until the blocks below take them", BACKWARD),
    ]


def _bytes(numbers: Numbers, setup: Setup) -> int:
    """Of all sequences of a batch."""
    return round(FLOAT * setup.tokens * (numbers.tokens + numbers.pairs * setup.seq_len))


def _passing(student: ModelShape, teacher: ModelShape, asked: Distilling) -> int:
    """The most that one pair needs: rows of the whole batch, matrices of one sequence."""
    found = 0
    for each in asked.compared:
        one = LOSSES[each.loss].passing(student, teacher, each.heads)
        matrices = round(FLOAT * one.pairs * asked.setup.seq_len**2)
        found = max(found, round(FLOAT * asked.setup.tokens * one.tokens) + matrices)
    return found


def _projections(student: ModelShape, teacher: ModelShape, asked: Distilling) -> list[Term]:
    """Learned matrices (teacher's width, student's width), which lie in the same flat memory as
    what is trained of the student; AdamW's two moments besides."""
    count = sum(len(each.pairs) for each in asked.compared if each.learned)
    if not count:
        return []
    size = count * teacher.blocks.hidden * student.blocks.hidden
    why = f"{count} × {teacher.blocks.hidden:,} × {student.blocks.hidden:,} × 2 × 4 B"
    return [
        Term("projections", 2 * FLOAT * size, f"{why}: with gradients"),
        Term("moments of projections", 2 * FLOAT * size, why, LEARNING),
    ]


def _of_pass(shape: ModelShape, asked: Distilling, *, side: int) -> int:
    """The numbers for each token that are kept of a pass: every state and block once, and not the
    last state, which is there anyway."""
    states: set[int] = set()
    heads: set[int] = set()
    for each in asked.compared:
        layers = {pair[side] for pair in each.pairs}
        if LOSSES[each.loss].of_heads:
            heads |= layers
        else:
            states |= layers - {shape.blocks.count - 1}
    return len(states) * shape.blocks.hidden + len(heads) * _vectors(shape, values=True)


def _last_states(student: ModelShape, asked: Distilling) -> int:
    """The student's last states, which nothing keeps but the loss that compares them: those below
    are kept by the norm that they go into."""
    last = student.blocks.count - 1
    compared = any(
        student_layer == last
        for each in asked.compared
        if not LOSSES[each.loss].of_heads
        for student_layer, _ in each.pairs
    )
    return student.blocks.hidden if compared else 0


def _gradients(student: ModelShape, asked: Distilling) -> int:
    """The numbers for each token of the gradients of what is compared in the student."""
    return _of_pass(student, asked, side=0) + _last_states(student, asked)
