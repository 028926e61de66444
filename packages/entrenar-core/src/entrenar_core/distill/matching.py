"""Which ids of two vocabularies mean the same."""

import numpy as np

from entrenar_common.errors import ConfigError
from entrenar_core.data.spelling import Spelling
from entrenar_core.kernels.aligned import Matching

__all__ = ["match"]


def match(
    student: Spelling,
    teacher: Spelling,
    *,
    matched_weight: float | None = None,
    sorted_weight: float | None = None,
) -> Matching:
    """The ids whose tokens are the same bytes (of special tokens: have the same name), and both
    tokenizers' end-of-text tokens, whatever they are called.

    Without weights, the divergence over the pairs weighs the share of the teacher's ids that are in
    one, and the sorted difference the rest. Raises ConfigError where one weight is given without
    the other, or both are 0.
    """
    if (matched_weight is None) != (sorted_weight is None) or matched_weight == sorted_weight == 0:
        raise ConfigError(
            f"matched_weight {matched_weight} and sorted_weight {sorted_weight}",
            hint="give both, not both 0, or leave both out: then they are the share of the "
            "teacher's ids that the student has too, and the rest",
        )
    ours = {key: number for number, key in enumerate(student.keys) if key is not None}
    pairs = {
        number: ours[key]
        for number, key in enumerate(teacher.keys)
        if key is not None and key in ours
    }
    if student.eos_id is not None and teacher.eos_id is not None:
        taken = {number for number, mine in pairs.items() if mine == student.eos_id}
        pairs = {number: mine for number, mine in pairs.items() if number not in taken}
        pairs[teacher.eos_id] = student.eos_id
    theirs = np.array(sorted(pairs), np.int64)
    share = len(theirs) / max(1, teacher.vocab_size)
    return Matching(
        student=np.array([pairs[number] for number in theirs.tolist()], np.int64),
        teacher=theirs,
        student_ids=student.vocab_size,
        teacher_ids=teacher.vocab_size,
        matched_weight=share if matched_weight is None else matched_weight,
        sorted_weight=1 - share if sorted_weight is None else sorted_weight,
    )
