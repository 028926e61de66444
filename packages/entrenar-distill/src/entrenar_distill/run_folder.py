"""The output folder of a distillation."""

from collections.abc import Mapping

from entrenar_core.train.run_folder import ADAPTER, AUTO, DATASET_REVISION, NEVER, Identity
from entrenar_core.train.run_folder import RunFolder as AnyRunFolder
from entrenar_distill.config import DistillConfig, as_yaml, config_hash

__all__ = ["ADAPTER", "AUTO", "NEVER", "PAGE", "RunFolder"]

PAGE = "report.html"


class RunFolder(AnyRunFolder):
    """The files of one distillation."""

    schema = "entrenar.distill.run-folder/1"
    config_name = "distill.yaml"
    decides_nothing = ("control", "output.", "observe.", "dataset.revision", "dataset.streaming")

    def open(
        self,
        config: DistillConfig,
        inputs: Mapping[str, str],
        *,
        resume: str,
        phases: tuple[str, ...],
    ) -> None:
        """Take the folder, which is locked, for a run of `config` on inputs of these fingerprints.
        Raises what `enter` raises."""
        text = as_yaml(config.pinned(inputs.get(DATASET_REVISION)))
        identity = Identity(config.model_dump(mode="json"), config_hash(config), text, inputs)
        self.enter(identity, resume=resume, phases=phases)
