"""What a model can be trained for, by name, and what is measured of it."""

from typing import Literal

__all__ = ["CAUSAL_LM", "FIGURES", "REGRESSION", "SEQUENCE_CLASSIFICATION", "TaskName"]

TaskName = Literal["causal-lm", "sequence-classification", "regression"]

CAUSAL_LM, SEQUENCE_CLASSIFICATION, REGRESSION = (
    "causal-lm", "sequence-classification", "regression",
)  # fmt: skip

FIGURES = {
    CAUSAL_LM: ("held_out_loss", "perplexity"),
    SEQUENCE_CLASSIFICATION: ("held_out_loss", "accuracy", "macro_f1"),
    REGRESSION: ("held_out_loss", "rmse", "r2"),
}
"""The figures of an evaluation by task."""
