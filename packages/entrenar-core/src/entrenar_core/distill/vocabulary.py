"""Which token ids of a teacher and a student mean the same."""

from typing import Any

from entrenar_common.errors import ConfigError
from entrenar_core.data.tokenizer import Tokenizer


def shared_vocabulary(
    teacher: Any, student: Any, teacher_tokenizer: Tokenizer, student_tokenizer: Tokenizer
) -> int:
    """How many ids, from 0, both models predict with one meaning.

    Embeddings padded to different sizes over the same tokenizer share the smaller size. Raises
    ConfigError for different tokenizers and for a tokenizer with more ids than a model has rows.
    """
    if not teacher_tokenizer.same_as(student_tokenizer):
        raise ConfigError(
            f"teacher and student have different tokenizers ({teacher_tokenizer.vocab_size} and "
            f"{student_tokenizer.vocab_size} ids): their logits are about different tokens",
            hint="distil into a student with the teacher's tokenizer",
        )
    for name, model in (("teacher", teacher), ("student", student)):
        rows = model.config.vocab_size
        if teacher_tokenizer.vocab_size > rows:
            raise ConfigError(
                f"the tokenizer has {teacher_tokenizer.vocab_size} ids, but the {name}'s embedding "
                f"has {rows} rows",
                hint=f"the {name} was made for another tokenizer, or its vocab_size is wrong",
            )
    return min(teacher.config.vocab_size, student.config.vocab_size)
