"""Finding a model: a folder on this machine, or a download through huggingface_hub's cache; or only
what is known of it without its weights."""

from pathlib import Path

from entrenar_common.errors import NotFoundError
from entrenar_common.text import escape_controls
from entrenar_core.io.hub_bars import bars_only_on_a_terminal, closed_bars
from entrenar_core.io.hub_errors import Asked, hub_errors
from entrenar_core.io.hub_model import HubModel, is_hub_name
from entrenar_core.io.hub_weights import safetensors_of
from entrenar_core.io.kinds import is_apr, is_gguf

_ALLOWED = ["*.json", "*.safetensors", "*.txt", "*.model", "tokenizer*"]
# top-level files only: sub-folders hold other formats, and no listed name leads out of the folder
_IGNORED = ["*/*", "consolidated*.safetensors"]


def resolve_model(spec: str | Path, revision: str | None = None) -> Path:
    """Where a model is: `spec` itself where it is a folder or a file with a whole model (GGUF,
    APR), else the folder of the hub's model of that name.

    Configs, tokenizer and safetensors files are downloaded to huggingface_hub's cache, or found in
    it. `HF_HOME`, `HF_ENDPOINT`, `HF_TOKEN` and `HF_HUB_OFFLINE` are honoured; `revision` is a
    branch, tag or commit.

    Raises NotFoundError (neither a folder nor a model on the hub), HubError (access refused,
    offline, no network, the hub is down), IntegrityError (a download of the wrong size),
    StorageError (the cache cannot be written).
    """
    name = str(spec)
    if name:  # no text at all would be the current folder
        folder = Path(spec).expanduser()
        if folder.is_dir():
            return folder
        if is_gguf(folder) or is_apr(folder):
            return folder
        if folder.exists():
            raise NotFoundError(
                f"{folder}: a file, not a model's folder, and neither GGUF nor APR",
                hint="give the folder that contains it",
            )
    return fetch_model(name, revision)


def fetch_model(name: str, revision: str | None = None) -> Path:
    """The folder of the hub's model `name`, whatever there is of that name on this machine; see
    `resolve_model`."""
    _check_name(name)
    return _download(name, revision)


def fetch_config(name: str, revision: str | None = None) -> Path:
    """The `config.json` of the hub's model `name`, downloaded to the cache or found in it.

    Raises what `resolve_model` raises.
    """
    from huggingface_hub import hf_hub_download  # a slow import

    _check_name(name)
    asked = Asked(name, revision, "config.json", or_folder=True)
    with hub_errors(asked), bars_only_on_a_terminal():
        return Path(hf_hub_download(name, "config.json", revision=revision))


def fetch_shapes(
    name: str, revision: str | None = None
) -> dict[str, tuple[str, tuple[int, ...]]] | None:
    """Type and shape of every tensor in the safetensors files of the hub's model `name`, as
    ("BF16", (32000, 4096)); None where it has no such files.

    Only the headers are fetched, by requests for ranges of bytes. Raises FormatError for a header
    that cannot be read or an index that is not that of the files, and what `resolve_model` raises.
    """
    _check_name(name)
    found = safetensors_of(HubModel(name, revision))
    if found is None:
        return None
    return {
        name: (info.dtype.name, info.shape)
        for file in found.files
        for name, info in file.tensors.items()
    }


def _check_name(name: str) -> None:
    if not is_hub_name(name):
        raise NotFoundError(
            f"'{escape_controls(name)}': no such folder, and not a name on the hub",
            hint="give a folder, or a name like org/model",
        )


def _download(name: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download  # a slow import

    asked = Asked(name, revision, or_folder=True)
    with hub_errors(asked), bars_only_on_a_terminal(), closed_bars() as bars:
        found = snapshot_download(
            name,
            revision=revision,
            allow_patterns=_ALLOWED,
            ignore_patterns=_IGNORED,
            tqdm_class=bars,
        )
    return Path(found)
