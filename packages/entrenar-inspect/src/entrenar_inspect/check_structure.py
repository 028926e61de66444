"""Whether the tensors are those of the model that the config describes."""

from collections.abc import Iterator
from pathlib import Path

from entrenar_common.errors import ConfigError, EntrenarError, FormatError, UnsupportedError
from entrenar_common.text import escape_controls
from entrenar_core.lora import StoredAdapter
from entrenar_core.models.stored import Misfit, StoredModel
from entrenar_inspect.artifact import GGUF, Artifact
from entrenar_inspect.check_blocks import block_findings
from entrenar_inspect.check_dtypes import dtype_findings
from entrenar_inspect.check_ties import tie_findings
from entrenar_inspect.dimensions import dimensions
from entrenar_inspect.finding import Finding, Looked, Skipped, broken
from entrenar_inspect.packed import part_findings
from entrenar_inspect.recognise import LORA, MODEL, SENTENCE, Recognition, recognise
from entrenar_inspect.subject import Subject

_COMPARED, _GENERAL = "all shapes follow from the config", "by general rules"
_SHARED = "num_hidden_groups"
"""A key of the configs of models, ALBERT's, whose blocks share tensors, so that they are fewer."""


def check_structure(subject: Subject) -> Looked | Skipped:
    """Names, shapes and types of all tensors, with the config where there is one."""
    artifact = subject.artifact
    if artifact is None:
        return Skipped("not every file opens")
    recognition = recognise(artifact)
    if recognition.kind == LORA:
        return Looked("a LoRA adapter", list(_adapter(artifact)))
    found = list(part_findings(artifact))
    if not subject.whole:
        found += dtype_findings(artifact)
        return Looked("one shard: types and parts only", found)
    note = _GENERAL
    if not found and artifact.model is not None and recognition.kind in (MODEL, SENTENCE):
        compared = _compared(artifact)
        if compared is not None:
            note, found = _COMPARED, compared
    if note == _GENERAL:
        found += _by_rules(artifact, recognition)
    found += dtype_findings(artifact)
    return Looked(f"{recognition.family or 'unknown family'}: {note}", found)


def _by_rules(artifact: Artifact, recognition: Recognition) -> list[Finding]:
    """What holds for every family."""
    found = []
    if _SHARED not in artifact.config:
        for text in dimensions(artifact, recognition).disagreements:
            found.append(broken("V212", escape_controls(text), place="config.json"))
    if recognition.contradiction is not None:
        found.append(broken("V206", escape_controls(recognition.contradiction)))
    return [*found, *block_findings(artifact), *tie_findings(artifact, recognition)]


def _compared(artifact: Artifact) -> list[Finding] | None:
    """What `entrenar_core.models` finds; None where it does not know this kind of model."""
    if artifact.kind == GGUF and _has_experts(artifact):
        return None  # GGUF calls Mixtral llama
    assert artifact.model is not None
    try:
        with StoredModel(Path(artifact.model), head=None, tolerant=True) as model:
            return [_misfit(misfit, artifact) for misfit in model.misfits]
    except (UnsupportedError, ConfigError):
        return None  # a variant that core does not compute; it may be right all the same
    except FormatError as error:
        return [broken("V206", escape_controls(str(error)))]


def _has_experts(artifact: Artifact) -> bool:
    return any("_exps." in name or "_exp." in name for name in artifact.tensors)


def _misfit(misfit: Misfit, artifact: Artifact) -> Finding:
    stored = misfit.stored or misfit.name
    entry = artifact.tensors.get(stored)
    if misfit.found is None:
        rule = "V201"
    elif misfit.tied:
        rule = "V204"
    else:
        rule = "V202" if misfit.wanted is None else "V203"
    text = str(misfit)
    if misfit.tied:
        text = f"{escape_controls(stored)}: has other values than what the config ties it to"
    return broken(rule, text, tensor=stored, file=entry.file if entry else None)


def _adapter(artifact: Artifact) -> Iterator[Finding]:
    """Where settings and tensors of an adapter contradict each other, and pairs that are none."""
    assert artifact.path is not None
    file = artifact.files[0].name
    try:
        # of a lone file nothing says the alpha, which nothing here depends on
        with StoredAdapter(artifact.path, alpha=1.0, tolerant=True) as adapter:
            for text in adapter.contradictions:
                yield broken("V231", text, file=file)
    except UnsupportedError:
        return  # another kind of adapter
    except EntrenarError as error:
        yield broken("V232", escape_controls(str(error)), file=file)
