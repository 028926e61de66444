"""What models can be distilled for, and which keys of the configuration go with it."""

from typing import Literal, get_args

from entrenar_core.train.strict import StrictModel

__all__ = [
    "CAUSAL_LM",
    "MASKED_LM",
    "SENTENCE_EMBEDDING",
    "SEQUENCE_CLASSIFICATION",
    "UNUSED",
    "TaskName",
    "check_keys",
]

TaskName = Literal["causal-lm", "masked-lm", "sentence-embedding", "sequence-classification"]

CAUSAL_LM, MASKED_LM, SENTENCE_EMBEDDING, SEQUENCE_CLASSIFICATION = get_args(TaskName)

_OF_TEXT_THAT_GOES_ON = {
    "packing", "boundaries", "kind", "route_field", "messages_field", "chat_template",
    "prompt_field", "completion_field", "loss_on",
}  # fmt: skip
_OF_LOGITS = {"temperature", "alpha", "loss", "beta", "skew", "top_k"}

UNUSED: dict[str, dict[str, set[str]]] = {
    CAUSAL_LM: {
        "dataset": {"text_pair_field", "label_field", "mask_share"},
        "distillation": {"embedding"},
    },
    MASKED_LM: {
        "dataset": _OF_TEXT_THAT_GOES_ON | {"text_pair_field", "label_field"},
        "distillation": {"embedding"},
    },
    SENTENCE_EMBEDDING: {
        "dataset": _OF_TEXT_THAT_GOES_ON | {"text_pair_field", "label_field", "mask_share"},
        "distillation": _OF_LOGITS,
    },
    SEQUENCE_CLASSIFICATION: {
        "dataset": _OF_TEXT_THAT_GOES_ON | {"mask_share"},
        "distillation": {"embedding"},
    },
}
"""The keys of sections that mean nothing to a task, so that giving them is an error."""


def check_keys(task: str, section: str, given: StrictModel) -> None:
    """Raise ValueError for a key of the section that was given and means nothing to the task."""
    strange = sorted(given.model_fields_set & UNUSED[task].get(section, set()))
    strange = [key for key in strange if getattr(given, key) is not None]
    if strange:
        users = [name for name, unused in UNUSED.items() if strange[0] not in unused[section]]
        raise ValueError(f"{strange[0]} goes with task {' or '.join(users)}, not {task}")
