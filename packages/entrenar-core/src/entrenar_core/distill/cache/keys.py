"""What a cache of predictions is about: it may be used for nothing else."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from entrenar_common.text import escape_controls


@dataclass(frozen=True)
class Keys:
    """What decides which rows there are, and what the teacher says about them.

    teacher:       a hash of the files of the teacher's config and weights
    teacher_dtype: what its matrices are held in
    tokenizer:     the tokenizer's fingerprint
    text:          the fingerprint of all documents, as token ids
    training:      that of those that are trained on, after the split
    seq_len, packing, boundaries, eos_id, pad_id, rows: how they are laid out in rows, and in how
                   many
    shared:        how many ids, from 0, the teacher's softmax is over
    """

    teacher: str
    teacher_dtype: str
    tokenizer: str
    text: str
    training: str
    seq_len: int
    packing: bool
    boundaries: bool
    eos_id: int | None
    pad_id: int | None
    rows: int
    shared: int

    def differences(self, wanted: "Keys") -> list[str]:
        """A line for each thing in which this one, a cache's, is not as `wanted`."""
        ours, theirs = asdict(self), asdict(wanted)
        changed = [name for name in ours if ours[name] != theirs[name]]
        if "text" in changed:  # another text is divided otherwise, in another number of rows
            changed = [name for name in changed if name not in ("training", "rows")]
        if not {"training", "seq_len", "packing", "eos_id"}.isdisjoint(changed):
            changed = [name for name in changed if name != "rows"]
        return [f"{_WORDS[name]}: {_told(ours, theirs, name)}" for name in changed]


_WORDS = {
    "teacher": "the teacher's files",
    "teacher_dtype": "what the teacher's matrices are held in (training.mixed_precision)",
    "tokenizer": "the tokenizer",
    "text": "the documents (the text, how it is read and tokenized)",
    "training": "which documents are trained on (training.seed, dataset.held_out)",
    "seq_len": "tokens of a row (dataset.max_length)",
    "packing": "whether rows are packed (dataset.packing)",
    "boundaries": "whether documents of a row are kept apart (dataset.boundaries)",
    "eos_id": "the id that ends a document",
    "pad_id": "the id that fills rows",
    "rows": "rows",
    "shared": "ids that teacher and student share",
}

_HASHES = ("teacher", "tokenizer", "text", "training")
_SHOWN = 12


def _told(ours: Mapping[str, Any], theirs: Mapping[str, Any], name: str) -> str:
    cut = slice(_SHOWN if name in _HASHES else None)
    was, now = (escape_controls(str(side[name]))[cut] for side in (ours, theirs))
    return f"{was} in the cache, {now} here"
