"""Merging the trained model with others."""

from pathlib import Path

from entrenar_common.progress import Progress
from entrenar_core.io import files
from entrenar_core.io.new_folder import check_new
from entrenar_core.merge.config import MergeConfig
from entrenar_core.merge.job import Job
from entrenar_core.merge.models import described, merge
from entrenar_core.train.declarative.merge_section import MergeSection
from entrenar_core.train.declarative.spec import TrainSpec

__all__ = ["check", "check_output", "merge_trained", "output_of"]

_MARK = "merged.json"
"""In the folder of a run: which folder it merges into."""


def output_of(spec: TrainSpec) -> Path | None:
    """The folder of the merged model, None where none is made."""
    if spec.merge is None:
        return None
    return Path(spec.merge.output or f"{spec.output.dir.rstrip('/')}-merged")


def check(section: MergeSection, start: Path | None) -> str:
    """What will be merged, in words. The model that is started from, which has the tensors of the
    trained one, stands for it; one that is made here is not known before it is written.

    Raises what reading the other models raises, and ConfigError where they do not fit.
    """
    if start is not None and str(start) not in (*section.models, section.base):
        with Job(_config(section, start)[0]):
            pass
    others = [*section.models, *([f"the base {section.base}"] if section.base else [])]
    return f"by {section.method} with {', '.join(others)}"


def check_output(trained: Path, output: Path) -> None:
    """Raise RefusedError where something is called `output` that the run in the folder `trained`
    has not written."""
    mark = trained / _MARK
    if not (mark.exists() and files.read_json(mark) == _marked(output)):
        check_new(output)


def merge_trained(
    section: MergeSection, trained: Path, output: Path, *, progress: Progress
) -> None:
    """Merge the model in the run's folder `trained` as `section` says into `output`. What is there
    from before the run was stopped is made anew. Raises what `check_output` and merging raise."""
    check_output(trained, output)
    files.write_json(trained / _MARK, _marked(output))
    if output.exists():
        files.remove_tree(output)
    config, text = _config(section, trained)
    merge(config, text, output, progress=progress)


def _config(section: MergeSection, trained: Path) -> tuple[MergeConfig, str]:
    names = [str(trained), *section.models]
    return described(names, method=section.method, base=section.base, parameters=section.parameters)


def _marked(output: Path) -> dict[str, str]:
    return {"output": str(output.resolve())}
