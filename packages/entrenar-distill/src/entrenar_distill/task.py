"""What a run does differently for each task: the seam between the pipeline and the tasks."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from entrenar_common.progress import Progress
from entrenar_core.train.loop import PhaseResult
from entrenar_core.train.objective import Objective
from entrenar_core.train.process import StopRequest
from entrenar_core.train.stored_numbers import StoredNumbers
from entrenar_distill.config import DistillConfig
from entrenar_distill.plan import Plan
from entrenar_distill.report import AdaptedStudent
from entrenar_distill.run_folder import RunFolder
from entrenar_distill.task_names import CAUSAL_LM, MASKED_LM, SENTENCE_EMBEDDING

__all__ = ["Task", "task_of"]

STUDENT, CONTROL = "student", "control"


class Task(Protocol):
    """A task, with the inputs that it reads: an object with `config`, `teacher`, `tokenizer`,
    `batches`, `quantization` and `features`, and the methods of `inputs.Inputs`."""

    def read_inputs(self, config: DistillConfig, *, progress: Progress) -> Any:
        """Load what `config` names. Everything that can be wrong with it is an error here, before
        anything is trained or written."""
        ...

    def plan(self, inputs: Any, *, phases: tuple[str, ...], done: dict[str, int]) -> Plan:
        """What a run would do."""
        ...

    def warnings(self, inputs: Any) -> list[str]:
        """What a user should know of the inputs before the run."""
        ...

    def named_teachers(self, inputs: Any) -> dict[str, Any]:
        """What is measured of the teachers, by name; the first is what the student is compared
        with."""
        ...

    def objective(self, inputs: Any, phase: str, model: Any) -> Objective:
        """What `model` is trained towards in this phase."""
        ...

    def held_out_loss(self, inputs: Any, model: Any, objective: Objective) -> float:
        """The loss of `model` on what was held out: the less, the better its checkpoint."""
        ...

    def load(self, inputs: Any, path: Path) -> Any:
        """The student that was written to `path`, a folder or a GGUF file."""
        ...

    def report(
        self,
        inputs: Any,
        trained: Mapping[str, Any],
        objectives: Mapping[str, Objective],
        timings: Mapping[str, PhaseResult],
        folder: RunFolder,
        progress: Progress,
        stop: StopRequest,
        *,
        quantization: StoredNumbers | None,
        adapter: AdaptedStudent | None,
    ) -> Any:
        """Measure `trained` (teacher first, then student and control) and put the report together.

        Raises InterruptedRun when `stop` is set meanwhile.
        """
        ...

    def read_report(self, path: Path) -> Any:
        """The report in a file that was written before."""
        ...


def task_of(config: DistillConfig) -> Task:
    """The task that `config` names."""
    if config.task == CAUSAL_LM:
        from entrenar_distill.causal import CausalLM

        return CausalLM()
    if config.task == MASKED_LM:
        from entrenar_distill.masked_task import MaskedLM

        return MaskedLM()
    if config.task == SENTENCE_EMBEDDING:
        from entrenar_distill.embedding_task import SentenceEmbedding

        return SentenceEmbedding()
    from entrenar_distill.classification_task import SequenceClassification

    return SequenceClassification()
