"""Groups of a student's positions beside those of a teacher that reads other tokens."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from entrenar_common.errors import ShapeError
from entrenar_core import kernels
from entrenar_core.autograd.ops.expected import FromHidden
from entrenar_core.kernels.aligned import Matching
from entrenar_core.kernels.divergences import Divergence

Int64 = npt.NDArray[np.int64]


class Aligned:
    """What `linear_aligned_distillation` compares a batch's logits with.

    told:    the teacher's logits at the m places that groups are predicted from, group by group
    targets: the token that came at each of them, int64 (m,)
    groups:  int64 (G, 4): the first of the student's positions and their number, the first of the
             teacher's places and their number; both rise from group to group, and the teacher's
             places go on without a gap
    """

    def __init__(self, told: FromHidden, targets: Int64, groups: Int64, matching: Matching):
        self.told, self.targets, self.groups = told, targets, groups
        self.matching = matching

    def check(self, positions: int, vocabulary: int) -> None:
        """Raise ShapeError unless the groups lie in `positions` positions, in order, and the ids
        are among the `vocabulary` of the student."""
        self.told.check(len(self.targets), self.matching.teacher_ids)
        first, count, theirs, their_count = self.groups.T
        ends = first + count
        fits = (
            self.matching.student_ids <= vocabulary
            and (self.groups >= [0, 1, 0, 1]).all()
            and (first[1:] >= ends[:-1]).all()
            and ends.max(initial=0) <= positions
            and (theirs == np.cumsum(their_count) - their_count).all()
            and their_count.sum() == len(self.targets)
        )
        if not fits:
            raise ShapeError(
                f"{len(self.groups)} groups of {len(self.targets)} of the teacher's tokens, for "
                f"{positions} positions of a student with {vocabulary} ids, of which "
                f"{self.matching.student_ids} are compared",
                hint="groups are (G, 4), in rising order, without overlap, and inside both",
            )

    def chunks(self, positions: int, size: int) -> Iterator[slice]:
        """The positions in slices of up to `size`, with as many places of the teacher. No slice
        cuts a group, so that one that has a longer group is longer."""
        first, count = self.groups[:, :2].T
        group = start = 0
        while start < positions:
            end, stop = self._reach(group, start, size)
            if end < len(first):
                stop = min(stop, int(first[end]))
            if end > group:
                stop = max(stop, int(first[end - 1] + count[end - 1]))
            yield slice(start, min(stop, positions))
            group, start = end, min(stop, positions)

    def _reach(self, group: int, start: int, size: int) -> tuple[int, int]:
        """Up to which group a chunk goes that begins with `group`, and the position up to which it
        may go."""
        first, count, theirs, their_count = self.groups.T
        if group == len(first):
            return group, start + size
        inside = int(np.searchsorted(first + count, start + size, "right"))
        begin = theirs[group]
        room = int(np.searchsorted(theirs + their_count, begin + size, "right"))
        end = min(inside, room)
        if end > group:
            return end, start + size
        # not even the first one fits: it comes alone, or after the positions before it
        before = min(int(first[group]), start + size)
        return (group, before) if before > start else (group + 1, start)

    def compare(
        self,
        logits: np.ndarray,
        chunk: slice,
        targets: np.ndarray,
        *,
        divergence: Divergence,
        alpha: float,
        scale: float,
        group_scale: float,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Cross-entropy (n,) of the student's logits (n, V) at the positions `chunk`, and for the
        groups there divergence and sorted difference (G,); the logits become the gradient, as
        `kernels.aligned_grad` has it."""
        begin, end = np.searchsorted(self.groups[:, 0], [chunk.start, chunk.stop])
        groups = self.groups[begin:end]
        places = slice(0, 0)
        if len(groups):
            places = slice(int(groups[0, 2]), int(groups[-1, 2] + groups[-1, 3]))
        expected = self.told.logits(places).astype(logits.dtype, copy=False)
        return kernels.aligned_grad(
            logits, expected, targets, self.targets[places],
            groups - [chunk.start, 0, places.start, 0],
            matching=self.matching, divergence=divergence, alpha=alpha,
            scale=scale, group_scale=group_scale,
        )  # fmt: skip
