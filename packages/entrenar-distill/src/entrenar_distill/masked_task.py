"""The task of a masked language model: what is behind a mask, told by the text around it."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from entrenar_common.progress import NullProgress, Progress
from entrenar_core.distill import LiveTeacher
from entrenar_core.models.reading import MASKED
from entrenar_core.train.evaluate import TokenScores
from entrenar_core.train.evaluate_masked import score_masked
from entrenar_core.train.objective import LanguageModelling
from entrenar_core.train.process import StopRequest
from entrenar_distill import objectives
from entrenar_distill.causal import left_out, rounded
from entrenar_distill.config import DistillConfig
from entrenar_distill.intervals import Figure, IntervalMethod
from entrenar_distill.masked_figures import masked_figures
from entrenar_distill.masked_inputs import HEAD, MaskedInputs, read_masked_inputs
from entrenar_distill.plan import Plan
from entrenar_distill.run_folder import RunFolder
from entrenar_distill.task import CONTROL
from entrenar_distill.text_next_steps import masked_commands
from entrenar_distill.text_task import FiguresTask, Measured
from entrenar_distill.verdicts import UNKNOWN, Measure, verdict_on

__all__ = ["MaskedLM"]

_LOSS = Measure("nats per hidden token", "held-out documents")


class MaskedLM(FiguresTask):
    """Hidden tokens, as the teacher and the text say: see `Task`."""

    head = HEAD
    normaliser = "per hidden token of the whole optimizer step"

    def read_inputs(self, config: DistillConfig, *, progress: Progress) -> MaskedInputs:
        return read_masked_inputs(config, progress=progress)

    def plan(self, inputs: MaskedInputs, *, phases: tuple[str, ...], done: dict[str, int]) -> Plan:
        found = super().plan(inputs, phases=phases, done=done)
        rows = found.texts_per_step or 0
        tokens = rows * inputs.config.dataset.max_length
        return replace(found, rows="document", tokens_per_step=tokens, texts_per_step=None)

    def warnings(self, inputs: MaskedInputs) -> list[str]:
        found = [*inputs.train.warnings, *left_out(inputs.train.skips, "documents")]
        return found + rounded(inputs.config.training)

    def objective(self, inputs: MaskedInputs, phase: str, model: Any) -> Any:
        if phase == CONTROL:
            return LanguageModelling(model, reading=MASKED)
        live = LiveTeacher(inputs.teacher, shared=inputs.shared, reading=MASKED)
        return objectives.objective(
            inputs.config, model, live, teacher=inputs.teacher, reading=MASKED
        )

    def held_out_loss(self, inputs: MaskedInputs, model: Any, objective: Any) -> float:
        """Nats per hidden token."""
        del objective
        return _scores({"model": model}, inputs, NullProgress())["model"].loss

    def formula(self, inputs: MaskedInputs) -> str:
        loss = inputs.config.distillation
        return loss.with_features(f"{loss.mixture}, per hidden token")

    def loss_settings(self, inputs: MaskedInputs) -> dict[str, float]:
        return inputs.config.distillation.settings()

    def settings(self, inputs: MaskedInputs) -> dict[str, str]:
        dataset = inputs.config.dataset
        return {
            "hidden": f"{dataset.mask_share:g} of the tokens, others in each epoch",
            "row": f"at most {dataset.max_length} ids",
        }

    def measure(
        self,
        inputs: MaskedInputs,
        every: Mapping[str, Any],
        objectives: Mapping[str, Any],
        progress: Progress,
        stop: StopRequest,
    ) -> tuple[Measured, dict[str, float]]:
        del objectives
        scores = _scores(every, inputs, progress, stop)
        found = masked_figures(scores, seed=inputs.config.training.seed)
        difference = found.of_tokens("student")
        verdict = _verdict(found.models["student"], difference, found.how)
        notes = []
        if difference is not None:
            teacher, control = (found.models[name]["loss"] for name in ("teacher", CONTROL))
            if teacher and control and not teacher.value < control.value:
                notes.append("The teacher is no better than the control: it has nothing to teach.")
        speeds = {name: len(inputs.held_out) / each.seconds for name, each in scores.items()}
        measured = Measured(found.models, found.how, verdict, difference, tuple(notes))
        return measured, speeds

    def next_commands(
        self, inputs: MaskedInputs, folder: RunFolder, whole: bool
    ) -> tuple[str, ...]:
        return masked_commands(folder, inputs, whole=whole)


def _scores(
    every: Mapping[str, Any],
    inputs: MaskedInputs,
    progress: Progress,
    stop: StopRequest | None = None,
) -> dict[str, TokenScores]:
    dataset, training = inputs.config.dataset, inputs.config.training
    return score_masked(
        every,
        inputs.held_out,
        seq_len=dataset.max_length,
        batch_size=training.batch_size,
        tokens=inputs.tokens,
        seed=training.seed,
        share=dataset.mask_share,
        progress=progress,
        between=lambda: None if stop is None else stop.check("measuring the models"),
    )


def _verdict(
    student: Mapping[str, Figure | None], difference: Mapping[str, Figure] | None,
    how: IntervalMethod,
) -> str:  # fmt: skip
    """What the run shows about distillation, in one sentence that claims no more than it can."""
    if difference is None:
        agreement = student["agreement"]
        assert agreement is not None
        return (
            f"The student's most likely token is the teacher's for {agreement.value:.1%} of the "
            f"hidden tokens. {UNKNOWN}"
        )
    found = difference["loss"]
    return verdict_on(
        _LOSS, found.value, found.low, found.high, confidence=how.confidence, count=how.count
    )
