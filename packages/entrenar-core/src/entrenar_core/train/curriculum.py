"""The section `curriculum` of a configuration: easy rows first, by a number of their documents."""

from typing import TYPE_CHECKING

from pydantic import Field

from entrenar_core.train.strict import StrictModel

if TYPE_CHECKING:
    import numpy as np

    from entrenar_core.data.curriculum import CurriculumBatches, Gathered


class CurriculumSection(StrictModel):
    """Easy rows first: batches are drawn from a share of the rows that grows with the steps.

    Source: Platanios et al. 2019, arXiv:1903.09848.
    """

    field: str = Field(
        min_length=1,
        description="field of the dataset's rows with a number, the larger the harder; a row of "
        "several documents has the mean of theirs",
    )
    start_share: float = Field(
        0.1, gt=0, le=1, description="share of the rows, the easiest, that step 0 draws from"
    )
    steps: int = Field(
        ge=1,
        description="optimizer step from which on all rows are drawn from; until then the share is "
        "√(t·(1 − start_share²)/steps + start_share²) at step t",
    )

    def batches(
        self, source: "Gathered", difficulty: "np.ndarray", *, seed: int, accumulation: int
    ) -> "CurriculumBatches":
        """Batches of the rows of `source`, whose difficulties (rows,) were read from `field`; see
        `data.curriculum`."""
        from entrenar_core.data.curriculum import Curriculum, CurriculumBatches

        plan = Curriculum(start_share=self.start_share, steps=self.steps)
        return CurriculumBatches(source, difficulty, plan, seed=seed, accumulation=accumulation)
