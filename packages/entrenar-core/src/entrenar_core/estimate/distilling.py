"""One way of distilling a model: what the teacher is held in, how the student is trained, what is
compared inside both, and what is in memory once all is trained."""

from dataclasses import dataclass
from itertools import chain

from entrenar_core.estimate.setup import Setup


@dataclass(frozen=True)
class Compared:
    """A loss of what is inside both models, for some pairs of layers.

    loss: its name in `own_features.LOSSES`; pairs: of the student's and the teacher's layers, the
    embeddings being −1; learned: whether each pair has a projection to the teacher's width; heads:
    those whose relations are compared.
    """

    loss: str
    pairs: tuple[tuple[int, int], ...]
    learned: bool = False
    heads: int = 0


@dataclass(frozen=True)
class Distilling:
    """`setup` is the student's: its batches are the teacher's too; `teacher` the precision that the
    teacher is held in.

    compared: the losses besides that of the predictions; control: a second student is trained
    without the teacher; fused: adapters are put into the weights, and the whole is read again;
    files: how many files of the student are measured, such as 2 where a quantized one is written.
    """

    setup: Setup
    teacher: str = "float32"
    compared: tuple[Compared, ...] = ()
    control: bool = False
    fused: bool = True
    files: int = 1

    @property
    def pairs(self) -> tuple[tuple[int, int], ...]:
        """All pairs of layers that are compared."""
        return tuple(chain.from_iterable(each.pairs for each in self.compared))
