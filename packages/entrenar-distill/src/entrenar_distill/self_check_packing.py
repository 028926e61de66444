"""How much of what a row teaches is read behind other documents."""

from collections.abc import Sequence

import numpy as np

from entrenar_core.data.batches import IGNORED, Batch
from entrenar_distill.check import Check, Status

TITLE = "documents that read others before them"


def packing(batches: Sequence[Batch]) -> Check:
    """The share of labelled positions that see tokens of an earlier document of their row: a fact
    about the data, which no bound is for."""
    seen = valid = 0
    for batch in batches:
        if batch.documents is None:
            return Check.skipped(
                "packing", TITLE, "the rows do not say which documents they are of"
            )
        counted = batch.labels != IGNORED
        later = batch.documents != batch.documents[:, :1]
        seen += int(np.count_nonzero(counted & later))
        valid += int(np.count_nonzero(counted))
    share = seen / max(1, valid)
    rows = sum(len(batch.ids) for batch in batches)
    note = f"{share:.0%} of {valid} tokens in {rows} rows"
    if seen:
        note += "; dataset.packing: false has a row for each"
    return Check("packing", TITLE, Status.OK, note)
