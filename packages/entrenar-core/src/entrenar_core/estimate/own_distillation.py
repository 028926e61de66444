"""The main memory that this library takes to distil a model, term by term: what its code allocates
for the steps of the student, for those of a control, and for measuring all models afterwards.

Sizes are bytes; arithmetic is in float32. One causal language model teaches another while it reads.
"""

from collections.abc import Sequence
from dataclasses import replace

from entrenar_core.autograd.ops.linear_loss import CHUNK
from entrenar_core.estimate import own_constants
from entrenar_core.estimate.distilling import Distilling
from entrenar_core.estimate.inference import Inference
from entrenar_core.estimate.own_features import features
from entrenar_core.estimate.own_inference import block_of_pass
from entrenar_core.estimate.own_memory import activations, loss_of_predictions, trained
from entrenar_core.estimate.own_weights import FLOAT, dequantized, weights
from entrenar_core.estimate.setup import in_few_bits
from entrenar_core.estimate.shape import ModelShape
from entrenar_core.estimate.terms import (
    AFTERWARDS,
    ALWAYS,
    BACKWARD,
    CONTROL,
    FEATURES,
    LEARNING,
    LOSS,
    MEASURING,
    READING,
    STEP,
    TEACHER,
    Memory,
    Term,
)

WHOLE = "float32"
"""What a student that was written is read in again."""
_OPTIMIZER = "adamw"


def own_distillation(student: ModelShape, teacher: ModelShape, asked: Distilling) -> Memory:
    """The terms of `asked`: its setup is the student's, and both bases are `own_weights.BASES`'.

    Raises ShapeError where rows of a matrix are no whole number of a base's blocks.
    """
    setup = replace(asked.setup, optimizer=_OPTIMIZER)
    asked = replace(asked, setup=setup)
    terms = [
        *_held(teacher, asked.teacher),
        *_named(weights(student, setup.base), "student"),
        *_trained(student, asked),
        *features(student, teacher, asked),
        *_of_teacher(teacher, asked),
        *_of_student(student, asked),
        *_of_control(student, asked),
        *_afterwards(student, teacher, asked),
        _widened(asked),
    ]
    terms = [*terms, *_reading(student, terms), _overhead(terms)]
    return Memory(tuple(term for term in terms if term.bytes), COMPUTED)


COMPUTED = f"computed from what this library allocates; {own_constants.DISTILLED}"


def _held(teacher: ModelShape, base: str) -> list[Term]:
    return _named(weights(teacher, base), "teacher")


def _named(terms: Sequence[Term], whose: str, when: str = ALWAYS) -> list[Term]:
    return [replace(term, name=f"{whose}'s {term.name}", when=when) for term in terms]


def _widened(asked: Distilling) -> Term:
    """Matrices that are not float32 are widened a panel at a time, one at a time of both models."""
    return dequantized(max((asked.teacher, asked.setup.base), key=lambda base: base != WHOLE))


def _of_teacher(teacher: ModelShape, asked: Distilling) -> list[Term]:
    """Its pass, before the student's; its last states, until the loss is computed; and its logits
    of a chunk, which are there until all losses are."""
    setup = asked.setup
    reading = block_of_pass(teacher, Inference(asked.teacher, setup.batch, setup.seq_len))
    states = FLOAT * setup.tokens * teacher.blocks.hidden
    chunk = min(CHUNK, setup.tokens)
    logits = FLOAT * chunk * teacher.vocabulary
    why = f"{chunk:,} tokens at a time × {teacher.vocabulary:,} × 4 B"
    lasting = (LOSS, FEATURES) if asked.compared else (LOSS,)
    return [
        Term("teacher's block", reading, "while one block works on the batch", TEACHER),
        *(Term("teacher's states", states, "those of its last block", when) for when in lasting),
        *(Term("teacher's logits", logits, why, when) for when in lasting),
    ]


def _of_student(student: ModelShape, asked: Distilling) -> list[Term]:
    """As in any training, but that what the tape keeps is not there while the teacher reads; and
    that the gradient of the head waits for the losses of features."""
    kept = [
        replace(term, when=STEP) if term.when == ALWAYS else term
        for term in activations(student, asked.setup)
    ]
    predicted = [
        replace(term, name=f"student's {term.name}")
        for term in loss_of_predictions(student, asked.setup)
    ]
    waiting = [
        replace(term, when=FEATURES)
        for term in predicted
        if asked.compared and not term.name.endswith("logits")
    ]
    return [*kept, *predicted, *waiting]


def _trained(student: ModelShape, asked: Distilling) -> list[Term]:
    """What the optimizer remembers is let go after the last step."""
    return [
        replace(term, when=LEARNING) if term.name == "optimizer state" else term
        for term in trained(student, asked.setup)
    ]


def _left(student: ModelShape, asked: Distilling) -> int:
    """Weights and gradients of a model that was trained."""
    terms = [*weights(student, asked.setup.base), *_trained(student, asked)]
    return sum(term.bytes for term in terms if term.when == ALWAYS)


def _of_control(student: ModelShape, asked: Distilling) -> list[Term]:
    """Its steps: those of the student without the teacher, beside the student as it was trained."""
    if not asked.control:
        return []
    step = Memory(
        (*activations(student, asked.setup), *loss_of_predictions(student, asked.setup)), ""
    )
    left, why = _left(student, asked), "its weights and gradients"
    return [
        Term("control's step", max(step.during(LOSS), step.during(BACKWARD)), "", CONTROL),
        Term("trained student", left, why, CONTROL),
    ]


def _afterwards(student: ModelShape, teacher: ModelShape, asked: Distilling) -> list[Term]:
    """What was trained stays with its gradients; the student is read again, from each file that was
    written; and all models read the held-out documents."""
    base = WHOLE if asked.fused else asked.setup.base
    again = asked.files * sum(term.bytes for term in weights(student, base))
    adapted = not asked.setup.is_full
    widened = FLOAT * student.in_linears if adapted and asked.fused else 0
    changed = widened if in_few_bits(asked.setup.base) or asked.setup.base != WHOLE else 0
    found = [
        Term("student read again", again, f"{asked.files} × what was written", AFTERWARDS),
        *_measured(student, teacher, asked),
    ]
    if changed:
        found.append(Term("adapter in the weights", changed, "in float32 then", AFTERWARDS))
    if asked.control:
        left, why = _left(student, asked), "its weights and gradients"
        found.append(Term("trained control", left, why, AFTERWARDS))
    return found


def _reading(student: ModelShape, terms: Sequence[Term]) -> list[Term]:
    """While the student is read again: what steps have freed stays with the process
    (`train.process.keep_freed_memory`), so the pages of a file come on top of the largest step."""
    memory = Memory(tuple(terms), "")
    largest = max(map(memory.during, (TEACHER, LOSS, FEATURES, BACKWARD, CONTROL)))
    freed = max(0, largest - memory.during(READING))
    why = "of the largest step, kept for the next one"
    return [
        Term("freed and kept", freed, why, READING),
        Term("file being read", FLOAT * max(student.sizes), "the pages of a tensor", READING),
    ]


def _measured(student: ModelShape, teacher: ModelShape, asked: Distilling) -> list[Term]:
    """The held-out measurement (`train.evaluate.score`): states and a chunk of logits of every
    model, and one block of the model that reads."""
    setup = asked.setup
    models = [teacher, *[student] * (asked.files + asked.control)]
    passes = [block_of_pass(m, Inference(WHOLE, setup.batch, setup.seq_len)) for m in models]
    states = FLOAT * setup.tokens * sum(model.blocks.hidden for model in models)
    chunk = min(CHUNK, setup.tokens)
    logits = FLOAT * chunk * sum(model.vocabulary for model in models)
    why = f"of {len(models)} models"
    return [
        Term("block that is measured", max(passes), "of the widest model", MEASURING),
        Term("states that are measured", states, why, MEASURING),
        Term("logits that are measured", logits, f"{why}, {chunk:,} tokens", MEASURING),
    ]


def _overhead(terms: Sequence[Term]) -> Term:
    """The process without models, and the share of what comes and goes that does not fit into what
    the other left."""
    memory = Memory(tuple(terms), "")
    smaller = min(memory.of(LOSS), memory.of(BACKWARD))
    size = own_constants.BASE + own_constants.PROGRAM + round(own_constants.FRAGMENTS * smaller)
    why = "the process without a model; what the allocator cannot use"
    return Term("fixed overhead", size, why)
