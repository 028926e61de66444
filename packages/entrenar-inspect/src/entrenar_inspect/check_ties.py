"""Whether the output matrix is there, or tied to the embedding, as the config says."""

from collections.abc import Iterator

import numpy as np

from entrenar_common.errors import EntrenarError
from entrenar_common.text import escape_controls
from entrenar_inspect.artifact import GGUF, Artifact, Entry
from entrenar_inspect.finding import Finding, broken
from entrenar_inspect.parameters import EMBEDDINGS, HEADS
from entrenar_inspect.recognise import Recognition

_ROWS = 4096
_WITH_HEAD = ("ForCausalLM", "LMHeadModel")


def embedding_of(artifact: Artifact) -> Entry | None:
    """The embedding of tokens."""
    return _ending(artifact, EMBEDDINGS)


def tie_findings(artifact: Artifact, recognition: Recognition) -> Iterator[Finding]:
    """Where the config's `tie_word_embeddings`, and what is there, are different things.

    Models of some families have a head of their own though the key says true, so that is a finding
    for the families that are known.
    """
    tied = artifact.config.get("tie_word_embeddings")
    embedding, head = embedding_of(artifact), _ending(artifact, HEADS)
    if artifact.kind == GGUF or embedding is None or not isinstance(tied, bool):
        return
    known = recognition.family is not None
    if known and tied and head is not None and _differ(artifact, embedding, head):
        message = f"{escape_controls(head.name)}: has other values than "
        message += f"{escape_controls(embedding.name)}, and tie_word_embeddings is true"
        yield broken("V204", message, tensor=head.name, file=head.file)
    if not tied and head is None and _wants_head(artifact, embedding):
        message = "tie_word_embeddings is false, and no tensor looks like the output matrix"
        yield broken("V205", message, place="config.json")


def _ending(artifact: Artifact, ends: tuple[str, ...]) -> Entry | None:
    return next((entry for name, entry in artifact.tensors.items() if name.endswith(ends)), None)


def _wants_head(artifact: Artifact, embedding: Entry) -> bool:
    """Whether the config names a language model, and nothing but the embedding has its rows."""
    named = artifact.config.get("architectures")
    named = named if isinstance(named, list) else []
    if not any(isinstance(each, str) and each.endswith(_WITH_HEAD) for each in named):
        return False
    rows = embedding.shape[0]
    return not any(
        len(entry.shape) == 2 and rows in entry.shape and entry.name != embedding.name
        for entry in artifact.tensors.values()
    )


def _differ(artifact: Artifact, first: Entry, second: Entry) -> bool:
    if first.shape != second.shape or second.same_as == first.name:
        return False  # a head of another shape is another thing than a copy
    try:
        a, b = artifact.read(first.name), artifact.read(second.name)
    except EntrenarError:
        return False  # what cannot be read is found where values are
    if not isinstance(a, np.ndarray) or not isinstance(b, np.ndarray) or a.dtype != b.dtype:
        return False
    # both at once would be a second copy of the largest matrix
    same = all(
        np.array_equal(_bits(a[start : start + _ROWS]), _bits(b[start : start + _ROWS]))
        for start in range(0, len(a), _ROWS)
    )
    artifact.release(first.name)
    artifact.release(second.name)
    return not same


def _bits(part: np.ndarray) -> np.ndarray:
    """The elements' bytes: NaN is equal to itself then."""
    return np.ascontiguousarray(part).view(np.uint8)
